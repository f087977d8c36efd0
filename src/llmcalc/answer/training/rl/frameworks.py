"""How frameworks run an iteration of PPO or GRPO, as far as it decides what is held when."""

from __future__ import annotations

from llmcalc.units import GIB

ALGORITHMS = ("grpo", "ppo")
ENGINES = ("vllm", "sglang", "transformers", "none")
ROLES = ("policy", "reference", "critic", "reward", "rollout")
PHASES = (
    "sync", "rollout", "reward", "log_probs", "reference", "values", "critic_update", "policy_update",
)  # fmt: skip
"""Of one iteration, in order: weights go to the engine, it answers, answers are judged, models updated."""

WAITING = ("optimizer", "params", "reference", "reward")
"""What may wait on the host while others work."""


class Framework:
    """What a framework does where the user says nothing else.

    Attributes
    ----------
    name : str
        As in ``--like``; empty for none.
    share : float
        Of the GPU, for an engine beside the training. [-]
    sleep, level : int
        Level of vLLM's sleep by default, and what `on` means. [-]
    loss : str
        How it computes log-probabilities (`memory.training.policy_losses`).
    frozen : str
        Dtype of reference and reward models.
    reference : dict
        The reference of each algorithm.
    processes : str
        ``one`` for all; ``engine``: the engine has its own; ``role``: each role has its own.
    bucket : int
        Buffer through which weights go to the engine; 0 is one tensor after the other. [B]
    copies : bool
        Whether each tensor is copied on its way to the engine.
    streams : bool
        Whether frozen models lie on the host and come to the GPU layer by layer.
    joint : bool
        Whether one step updates policy and critic together.
    engine : dict
        Keywords of the engine.
    source : str
        Where it is told.
    """

    __slots__ = (
        "bucket", "copies", "engine", "frozen", "joint", "level", "loss", "name", "processes", "reference",
        "share", "sleep", "source", "streams",
    )  # fmt: skip

    def __init__(
        self, name: str, source: str, *, share: float, sleep: int, level: int, loss: str, frozen: str,
        reference: dict[str, str], processes: str, bucket: int = 0, copies: bool = False,
        streams: bool = False, joint: bool = False, engine: dict[str, object] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.source, self.share, self.sleep, self.level = name, source, share, sleep, level
        self.loss, self.frozen, self.reference, self.processes = loss, frozen, reference, processes
        self.bucket, self.copies, self.streams, self.joint = bucket, copies, streams, joint
        self.engine = dict(engine or {})


SAME = {"grpo": "same", "ppo": "same"}
FRAMEWORKS = {
    one.name: one
    for one in (
        # Nothing named: TRL's share and losses, an engine in a process of its own, 16-bit frozen models.
        Framework("", "trl-grpo", share=0.3, sleep=0, level=2, loss="log-probs", frozen="bf16",
                  reference=SAME, processes="engine"),
        # grpo_config.py, vllm_generation.py: no reference while beta is 0; models load in fp32.
        Framework("trl", "trl-grpo", share=0.3, sleep=0, level=2, loss="log-probs", frozen="fp32",
                  reference={"grpo": "none", "ppo": "same"}, processes="one", joint=True,
                  engine={"max_num_batched_tokens": 4096}),
        # rollout.yaml, fsdp_workers.py: the engine sleeps at level 2; frozen models are offloaded by FSDP.
        Framework("verl", "verl-fsdp", share=0.5, sleep=2, level=2, loss="log-probs-in-place", frozen="bf16",
                  reference=SAME, processes="engine", bucket=2 * GIB, copies=True, streams=True,
                  engine={"max_num_batched_tokens": 8192, "max_num_seqs": 256}),
        # train_ppo_ray.py and the README's template: an actor for each model, level 1 where all share GPUs.
        Framework("openrlhf", "openrlhf-ppo", share=0.5, sleep=1, level=1, loss="log-probs-wide",
                  frozen="bf16", reference=SAME, processes="role", copies=True),
    )
}  # fmt: skip


def framework_of(like: str | None) -> Framework:
    """The framework that `--like` names; what others name settles training alone."""
    return FRAMEWORKS.get(like or "", FRAMEWORKS[""])
