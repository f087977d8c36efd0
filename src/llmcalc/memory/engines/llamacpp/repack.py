"""What llama.cpp re-lays out for its CPU: a buffer of its own (CPU_REPACK) beside the file's pages.

Read off llama.cpp v0.5.0: ggml/src/ggml-cpu/repack.cpp for types and instructions,
src/llama-model.cpp (``make_cpu_buft_list``) for when: a GPU whose driver pins host memory (CUDA, ROCm,
Vulkan) comes first, and then nothing is re-laid out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmcalc.memory.engines.llamacpp.extras import Extra, Shown

if TYPE_CHECKING:
    from llmcalc.memory.engines.llamacpp.deployment import Deployment
    from llmcalc.model.inventory import Group, Tensor

SOURCE = "llama.cpp v0.5.0, ggml/src/ggml-cpu/repack.cpp"

AVX2 = {"q4_0": 8, "q4_k": 8, "iq4_nl": 8, "mxfp4": 8}
TYPES = {
    "avx2": AVX2,
    "avx512": AVX2 | {"q2_k": 8},
    "neon": {
        "iq4_nl": 4, "mxfp4": 4, "q1_0": 4, "q4_0": 4, "q4_k": 8, "q5_k": 8, "q6_k": 8, "q8_0": 4,
    },
}  # fmt: skip
"""Types by the CPU's instructions, each with what must divide its rows (neon: with dot products)."""

PINS = ("cuda", "vulkan")
"""Backends whose host memory is pinned."""


class Repacked(Extra):
    """Weights of the host in another layout, taken from the file's own.

    Parameters
    ----------
    kind : str
        Instructions of the CPU; ``on`` is neon beside an Apple GPU, else avx2.
    devices : int
        GPUs. [-]
    backend : str
        Theirs.
    """

    def __init__(self, kind: str, devices: int, backend: str) -> None:
        super().__init__()
        self.kind = kind if kind != "on" else "neon" if devices and backend == "metal" else "avx2"
        self.is_idle = bool(devices) and backend in PINS
        grade = "assumed" if kind == "on" else "derived"
        note = f"re-laid out for {self.kind}, not read from the file's pages"
        self.shown["host_repack"] = Shown("its tensors", SOURCE, note, grade, host_only=True)
        if self.is_idle:
            self.warnings.append(
                "Beside a GPU with pinned host memory llama.cpp re-lays out nothing (--repack), unless it is "
                "told --no-host."
            )
        elif kind == "on":
            self.warnings.append(
                f"The CPU is taken to have {self.kind}; "
                f"--repack {' or '.join(set_apart(self.kind))} names another."
            )
        if not self.is_idle:
            self.warnings.append(
                "llama.cpp prints CPU_Mapped as a span of the file, re-laid tensors in it; here each "
                "tensor counts once."
            )

    def amounts(
        self, deployment: Deployment, context: int, slots: int, exact: bool
    ) -> dict[str, list[int]]:  # fmt: skip
        """What is re-laid out, and what the file's pages hold less."""
        made, moved = [0] * deployment.places, [0] * deployment.places
        host = deployment.devices
        if not self.is_idle:
            for group in deployment.inventory.groups:
                for tensor in group.tensors:
                    size = self._size(deployment, group, tensor)
                    own = size * sum(
                        deployment.place_of(layer, tensor.role) == host for layer in deployment.indices(group)
                    )
                    made[host] += own
                    moved[host] -= own
            made[host] += self._tied(deployment)
        return {"host_repack": made, "weights": moved}

    def _size(self, deployment: Deployment, group: Group, tensor: Tensor) -> int:
        """Bytes of a tensor, if it is re-laid out: a matrix that is multiplied, of a type that can be. [B]"""
        is_expert = len(tensor.shape) == 3 and tensor.role.startswith("expert")
        if tensor.tag not in deployment.inventory.loaded or group.place == "embedding":
            return 0
        if len(tensor.shape) != 2 and not is_expert:
            return 0
        kinds = {(part.dtype or "").lower() for part in tensor.stored or (tensor,)}
        if len(kinds) != 1 or tensor.shape[-2] % TYPES[self.kind].get(kinds.pop(), 1 << 62):
            return 0
        return deployment.weight(tensor, deployment.devices)

    def _tied(self, deployment: Deployment) -> int:
        """A head tied to the embedding is a copy, if it is re-laid out. [B]"""
        head = len(deployment.layers)
        if deployment.where[head] != deployment.devices:
            return 0
        groups = deployment.inventory.groups
        if not any(op.role == "embedding" for group in groups if group.place == "head" for op in group.ops):
            return 0
        for group in groups:
            for tensor in group.tensors:
                if (group.place, tensor.role, tensor.part) == ("embedding", "embedding", "weight"):
                    kind = (tensor.dtype or "").lower()
                    fits = tensor.shape[0] % TYPES[self.kind].get(kind, 1 << 62) == 0
                    return deployment.weight(tensor, deployment.devices) if fits else 0
        return 0


def set_apart(kind: str) -> list[str]:
    """The other kinds of CPU."""
    return [other for other in TYPES if other != kind]
