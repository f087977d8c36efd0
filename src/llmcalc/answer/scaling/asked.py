"""What was asked of the scaling laws: budget, model, laws, resolved and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmcalc.catalog import Catalog
from llmcalc.compute.utilization import Utilization, usual
from llmcalc.errors import InputError, Problems
from llmcalc.hardware import parse_gpu
from llmcalc.scaling.laws import BESIDE, DEFAULT, Law, all_laws, find_law
from llmcalc.scaling.loss import gpu_flops
from llmcalc.units import (
    MAX_FLOPS,
    format_count,
    parse_compute,
    parse_count,
    parse_integer,
    parse_real,
    parse_share,
)

RULE_OF_20 = 120.0
"""Operations for each squared parameter at 20 tokens a parameter: 6 N x 20 N. [FLOP]"""

FEEDFORWARD = 2 / 3
"""Assumed share of active parameters that is the feed-forward part: 8 of 12 matrices of width squared. [-]"""

AGREE = 0.05
"""How far 6 N D may lie from compute given beside them, which may count more than matrices do. [-]"""

DTYPES = ("bf16", "fp16", "fp8", "tf32", "fp32", "fp4")


class Hardware:
    """GPUs, and how long they compute.

    Attributes
    ----------
    name : str
        Of the GPU.
    count : int
        How many. [-]
    days : float or None
        How long; None where that is asked. [days]
    peak : float
        Dense peak of one. [FLOP/s]
    dtype : str
        That it is the peak of.
    mfu : float
        Share of the peak over all hours. [-]
    usual : Utilization or None
        Where nobody said so: what published runs of that size reach, with its range.
    """

    __slots__ = ("count", "days", "dtype", "entry", "mfu", "name", "peak", "usual")

    def __init__(self, name: str, count: int, peak: float, dtype: str, entry: dict[str, Any]) -> None:
        self.name, self.count, self.peak, self.dtype, self.entry = name, count, peak, dtype, entry
        self.days: float | None = None
        self.mfu = 0.0
        self.usual: Utilization | None = None

    def expect(self, parameters: float | None, compute: float | None) -> None:
        """Take the utilization of published runs of that size; without one, of that at 20 tokens a parameter.

        Where the compute itself follows from it, both are found together: the size matters little.
        """
        for _ in range(1 if parameters is not None or compute is not None else 6):
            flops = compute or (self.compute if self.usual else 1e10 * 1e10 * RULE_OF_20)
            self.usual = usual(self.entry, parameters or (flops / RULE_OF_20) ** 0.5, self.dtype, None)
            self.mfu = self.usual.run

    @property
    def compute(self) -> float:
        """FLOPs of all in those days. [FLOP]"""
        return float(gpu_flops(self.count, self.days, self.peak, self.mfu))

    def days_for(self, compute: float) -> float:
        """How long they take. [days]"""
        if not self.mfu:
            self.expect(None, compute)
        return compute / float(gpu_flops(self.count, 1, self.peak, self.mfu))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "gpu": self.name, "count": self.count, "days": self.days, "peak_flops": self.peak,
            "dtype": self.dtype, "mfu": self.mfu,
            "mfu_range": [self.usual.low, self.usual.high] if self.usual else [self.mfu, self.mfu],
        }  # fmt: skip


class Counts:
    """The parameters of a model under every convention.

    Attributes
    ----------
    name : str
        Of the model; empty for a bare number.
    by : dict
        Convention to number. [params]
    """

    __slots__ = ("by", "name")

    def __init__(self, name: str, by: dict[str, float]) -> None:
        self.name, self.by = name, by

    def of(self, law: Law) -> float:
        """As a law counts them. [params]"""
        return self.by.get(law.convention, self.by["active"])


def counts_of(inventory: Any) -> Counts:
    """Parameters of a model: all, active, without embeddings, in matrix products."""
    roles = inventory.by_role()
    embedding = roles.get("embedding", 0) + roles.get("position", 0)
    head = roles.get("unembedding", 0)
    active, total = inventory.active_params, inventory.params
    tied = not head
    return Counts(
        inventory.name,
        {
            "total": float(active),
            "active": float(active),
            "all": float(total),
            "non-embedding": float(active - embedding - head),
            "active-non-embedding": float(active - embedding - head),
            "flops-per-token": float(active - embedding - head),
            "no-input-embedding": float(active if tied else active - embedding),
            "matmul": float(active if tied else active - embedding),
        },
    )


def bare_counts(params: float) -> Counts:
    """A bare number: every law takes it as it counts."""
    return Counts("", {"active": params, "all": params})


class Asked:
    """Everything that `chinchilla` and `hparams` were given, as numbers.

    Attributes
    ----------
    compute, tokens, loss : float or None
        Training compute, training tokens, loss. [FLOP], [tokens], [nats/token]
    counts : Counts or None
        Parameters.
    laws : list of Law
        Those asked, the first one first.
    named : bool
        Whether the laws were named.
    hardware : Hardware or None
        GPUs.
    inference, unique : float or None
        Tokens of inference; unique tokens. [tokens]
    active_ratio, experts : float or None
        Of a mixture: active over all parameters; experts of a layer. [-]
    origins : dict
        Where each number came from.
    """

    def __init__(self, book: Catalog) -> None:
        self.book = book
        self.compute: float | None = None
        self.tokens: float | None = None
        self.loss: float | None = None
        self.counts: Counts | None = None
        self.laws: list[Law] = []
        self.named = False
        self.hardware: Hardware | None = None
        self.inference: float | None = None
        self.unique: float | None = None
        self.active_ratio: float | None = None
        self.experts: float | None = None
        self.origins: dict[str, str] = {}

    @property
    def is_mixture(self) -> bool:
        """Whether a mixture of experts is asked about."""
        return self.experts is not None and self.experts > 1

    def scenario(self) -> dict[str, Any]:
        """Inputs as resolved."""
        return {
            "compute": self.compute,
            "params": None if self.counts is None else self.counts.by["active"],
            "model": self.counts.name or None if self.counts is not None else None,
            "tokens": self.tokens,
            "loss": self.loss,
            "laws": [law.name for law in self.laws],
            "inference_tokens": self.inference,
            "unique_tokens": self.unique,
            "active_ratio": self.active_ratio,
            "experts": self.experts,
            **(self.hardware.to_dict() if self.hardware is not None else {}),
        }


def read(book: Catalog, given: dict[str, Any], counts: Counts | None, answer: str = "optimum") -> Asked:
    """Resolve the keywords of a call.

    Raises
    ------
    LlmcalcError
        With every mistake of the call together.
    """
    asked = Asked(book)
    asked.counts = counts
    problems = Problems()
    for name, reader in (("compute", parse_compute), ("tokens", parse_count)):
        with problems:
            if given.get(name) is not None:
                setattr(asked, name, float(reader(given[name], f"--{name.replace('_', '-')}")))
                asked.origins[name] = f"--{name}"
    with problems:
        if given.get("loss") is not None:
            asked.loss = parse_real(given["loss"], "--loss", {"": 1}, "2.1 (nats per token)", 1e-6, 100)
    for option in ("inference_tokens", "unique_tokens"):
        with problems:
            if given.get(option) is not None:
                value = float(parse_count(given[option], f"--{option.replace('_', '-')}"))
                setattr(asked, option.partition("_")[0], value)
    with problems:
        _mixture(asked, given)
    with problems:
        asked.hardware = _hardware(given, book)
    with problems:
        asked.laws, asked.named = _laws(given.get("law"), asked, answer)
    problems.check()
    _agree(asked)
    return asked


def _mixture(asked: Asked, given: dict[str, Any]) -> None:
    from llmcalc.scaling.experts import experts_of_ratio

    ratio, experts = given.get("active_ratio"), given.get("experts")
    if ratio is not None and experts is not None:
        raise InputError(
            "--active-ratio and --experts say the same of a mixture.", "Give one: --experts is the exact one."
        )
    if experts is not None:
        asked.experts = float(parse_integer(experts, "--experts", 100_000))
        asked.active_ratio = 1 / (1 + FEEDFORWARD * (asked.experts - 1))
        asked.origins["active_ratio"] = "--experts"
    elif ratio is not None:
        asked.active_ratio = parse_share(ratio, "--active-ratio")
    elif asked.counts is not None and asked.counts.by["all"] > asked.counts.by["active"]:
        asked.active_ratio = asked.counts.by["active"] / asked.counts.by["all"]
        asked.origins["active_ratio"] = asked.counts.name
    if asked.experts is None and asked.active_ratio is not None:
        asked.experts = float(experts_of_ratio(asked.active_ratio, FEEDFORWARD))


def _hardware(given: dict[str, Any], book: Catalog) -> Hardware | None:
    gpu, days, mfu = given.get("gpu"), given.get("days"), given.get("mfu")
    dtype = given.get("dtype")
    if gpu is None:
        for name, value in (("--days", days), ("--mfu", mfu), ("--dtype", dtype)):
            if value is not None:
                raise InputError(f"{name} needs GPUs.", "Add --gpu, for example --gpu 8xh100-80gb.")
        return None
    if not isinstance(gpu, str) or "," in gpu:
        raise InputError(f"--gpu {str(gpu)[:60]!r} is more than one kind of GPU.", "Name one: 8xh100-80gb.")
    device = parse_gpu(gpu, book)
    entry = book.lookup("gpus", device.name.partition(":")[0])
    peaks = (entry or {}).get("tflops_dense") or {}
    wanted = [str(dtype).lower()] if dtype is not None else ["bf16", "fp16"]
    if dtype is not None and wanted[0] not in DTYPES:
        raise InputError(f"--dtype {str(dtype)[:40]!r} is not known.", f"Use {', '.join(DTYPES)}.")
    found = next((one for one in wanted if one in peaks), None)
    if found is None or ":" in device.name:
        raise InputError(
            f"The catalog has no {' or '.join(wanted)} peak of {device.name}.",
            "Name a card that has one (llmcalc gpus show h100-80gb), or give --compute.",
        )
    hardware = Hardware(device.name, device.count or 1, float(peaks[found]) * 1e12, found, entry or {})
    if mfu is not None:
        hardware.mfu = parse_share(mfu, "--mfu")
    if days is not None:
        hardware.days = parse_real(days, "--days", {"": 1, "d": 1, "days": 1}, "30 or 0.5", 1e-6, 1e5)
    return hardware


def law_names(given: Any) -> list[str]:
    """The names in ``--law``: a string with commas, or a sequence of strings.

    Raises
    ------
    InputError
        If it names no law.
    """
    words = [word.strip() for word in given.split(",")] if isinstance(given, str) else given
    named = isinstance(words, Sequence) and all(isinstance(word, str) and word.strip() for word in words)
    if not named or not words:
        raise InputError(f"--law {str(given)[:60]!r} names no law.", "llmcalc laws lists all.")
    return [word.strip() for word in words]


def _laws(given: Any, asked: Asked, answer: str) -> tuple[list[Law], bool]:
    """The laws asked, by name; the default and what stands beside it where none is."""
    if given is None:
        names: Sequence[str] = (DEFAULT, *BESIDE)
        if asked.unique is not None:
            names = ("muennighoff-2023",)
        elif asked.is_mixture:
            names = ("ludziejewski-2025", DEFAULT)
        return [find_law(name, asked.book) for name in names], False
    words = law_names(given)
    if words == ["all"]:
        first = "ludziejewski-2025" if asked.is_mixture else DEFAULT
        laws = all_laws(asked.book, answer, beside=answer == "optimum")
        return sorted(laws, key=lambda law: law.name != first), True
    found, problems = [], Problems()
    for word in dict.fromkeys(words):
        with problems:
            law = find_law(word, asked.book)
            law.speak(answer)
            found.append(law)
    problems.check()
    return found, True


def _agree(asked: Asked) -> None:
    """Refuse budgets that contradict each other.

    Raises
    ------
    InputError
        Naming both, and by how much they differ.
    """
    hardware = asked.hardware
    size = asked.counts.by["active"] if asked.counts else None
    if hardware is not None and not hardware.mfu and (hardware.days or asked.compute or size):
        hardware.expect(size, asked.compute)
    if hardware is not None and hardware.days is not None:
        if asked.compute is not None and abs(hardware.compute / asked.compute - 1) > AGREE:
            raise InputError(
                f"--compute {asked.compute:.4g} contradicts --gpu, --days and --mfu: "
                f"{hardware.count} x {hardware.name} give {hardware.compute:.4g} FLOP.",
                "Leave one of the two out; --gpu without --days tells how long it takes.",
            )
        asked.compute = hardware.compute if asked.compute is None else asked.compute
        asked.origins.setdefault("compute", "--gpu, --days and --mfu")
    if asked.counts is not None and asked.tokens is not None:
        N = asked.counts.by["active"]
        needs = 6.0 * N * asked.tokens
        if asked.compute is not None and abs(needs / asked.compute - 1) > AGREE:
            raise InputError(
                f"Compute, parameters and tokens contradict: 6 x {format_count(N)} x "
                f"{format_count(asked.tokens)} is {needs:.4g} FLOP, {needs / asked.compute:.3g} times the "
                f"{asked.compute:.4g} given.",
                "Give two of --compute, --params and --tokens; the third follows.",
            )
        if needs > MAX_FLOPS:
            raise InputError(
                f"6 x parameters x tokens is {needs:.3g} FLOP, above the largest that makes sense "
                f"({MAX_FLOPS:g} FLOP).",
                "Give fewer parameters or tokens.",
            )
