"""What was asked of an iteration of reinforcement learning, resolved and checked."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.training.presets import ALIASES
from llmcalc.answer.training.rl.frameworks import (
    ALGORITHMS,
    ENGINES,
    ROLES,
    WAITING,
    Framework,
    framework_of,
)
from llmcalc.answer.training.words import flag, one_word
from llmcalc.errors import InputError, Problems, one_of
from llmcalc.units import parse_bytes, parse_decimal, parse_integer, parse_length, shown

KEYWORDS = (
    "rl", "critic", "reward", "rollout", "placement", "rollout_gpus", "rollout_tp", "gpu_memory_utilization",
    "sleep", "enforce_eager", "idle_offload", "sync_bucket", "prompt", "output", "group_size", "prompts",
    "forward_batch",
)  # fmt: skip
"""Keywords that are about reinforcement learning alone."""

OUTPUT, PROMPT, GROUP = 512, 512, {"grpo": 8, "ppo": 1}
"""TRL's defaults: tokens of an answer and answers of a prompt; a prompt of as many tokens is assumed."""

NONE = ("none", "no", "off", "0")


class RlAsked:
    """Resolved inputs of an iteration.

    Attributes
    ----------
    algorithm : str
        ``grpo`` or ``ppo``.
    framework : Framework
        Whose way it is.
    reference, critic, reward : object
        A model, ``same``, or None.
    engine : str
        That answers: ``vllm``, ``sglang``, ``transformers``, or ``none``.
    apart : tuple of str
        Roles on GPUs of their own.
    rollout_gpus, tp : int
        GPUs of the engine where it has its own, and those that share its tensors. [-]
    share : str or None
        Of the GPU that the engine takes; None is the engine's own default.
    level : int
        At which the engine sleeps while others work; 0 is not at all.
    eager : bool
        Whether the engine captures no CUDA graphs.
    waiting : frozenset of str
        What waits on the host while others work.
    bucket : int
        Buffer through which weights go to the engine; 0 is one tensor after the other. [B]
    prompt, output, group : int
        Tokens of a prompt and an answer; answers of a prompt. [tokens], [-]
    prompts, forward : int or None
        Prompts of an iteration, and sequences of a pass without gradients; None follows the step. [-]
    origins : dict
        Where each came from.
    """

    def __init__(self) -> None:
        self.algorithm = "grpo"
        self.framework: Framework = framework_of(None)
        self.reference: Any = "same"
        self.critic: Any = None
        self.reward: Any = None
        self.engine = "vllm"
        self.apart: tuple[str, ...] = ()
        self.rollout_gpus, self.tp = 0, 1
        self.share: str | None = None
        self.level = 0
        self.eager = False
        self.waiting: frozenset[str] = frozenset()
        self.bucket = 0
        self.prompt, self.output, self.group = PROMPT, OUTPUT, 8
        self.prompts: int | None = None
        self.forward: int | None = None
        self.origins: dict[str, str] = {}

    @property
    def length(self) -> int:
        """Tokens of a prompt with its answer. [tokens]"""
        return self.prompt + self.output

    @property
    def placement(self) -> str:
        """Where roles stand, in a word or by name."""
        return {(): "colocated", ("rollout",): "separate"}.get(self.apart, ",".join(self.apart))


def refuse_without(given: dict[str, Any]) -> None:
    """Refuse what is about reinforcement learning where none is asked for.

    Raises
    ------
    InputError
        With the option that asks for it.
    """
    for key in KEYWORDS:
        if given.get(key) not in (None, False):
            raise InputError(
                f"--{key.replace('_', '-')} is about reinforcement learning, and none is asked for.",
                "Add --rl grpo or --rl ppo, or leave it out.",
            )


def resolve_rl(given: dict[str, Any], reference: Any, gpus: int | None) -> RlAsked:
    """Turn keywords into what was asked, telling all mistakes together.

    Parameters
    ----------
    given : dict
        Keywords of `llmcalc.train`.
    reference : object
        That of ``--reference``.
    gpus : int or None
        GPUs that train, where they are named. [-]
    """
    made, problems = RlAsked(), Problems()
    with problems:
        made.algorithm = one_word(given["rl"], ALGORITHMS, "--rl")
    like = None if given["like"] is None else str(given["like"]).strip().lower().replace("_", "-")
    made.framework = frame = framework_of(ALIASES.get(like, like) if like else None)
    with problems:
        _models(made, given, reference)
    with problems:
        made.engine = one_word(_or(given["rollout"], made, "rollout", "vllm"), ENGINES, "--rollout")
    with problems:
        made.apart = _apart(given["placement"])
    with problems:
        _lengths(made, given)
    with problems:
        _group(made, given)
    with problems:
        made.waiting = _waiting(given["idle_offload"])
    with problems:
        bucket = given["sync_bucket"]
        made.bucket = frame.bucket if bucket is None else _bytes(bucket)
    for key, name in (("prompts", "prompts"), ("forward_batch", "forward")):
        with problems:
            if given[key] is not None:
                setattr(made, name, parse_integer(given[key], f"--{key.replace('_', '-')}", 10**9))
    problems.check()
    with problems:
        _engine(made, given, gpus)
    problems.check()
    return made


def _or(value: Any, made: RlAsked, key: str, default: Any) -> Any:
    made.origins[key] = "default" if value is None else "given"
    return default if value is None else value


def _models(made: RlAsked, given: dict[str, Any], reference: Any) -> None:
    """Reference, critic and reward: a model, the policy's own, or none."""
    default = made.framework.reference[made.algorithm]
    word = _or(reference, made, "reference", default)
    made.reference = None if _is(word, NONE) else word
    if made.algorithm == "grpo":
        if given["critic"] is not None and not _is(given["critic"], NONE):
            raise InputError(
                "--critic: GRPO has none; it compares the answers of a group.",
                "Leave --critic out, or use --rl ppo.",
            )
        made.critic = None
    else:
        made.critic = _or(given["critic"], made, "critic", "same")
        if _is(made.critic, NONE):
            raise InputError(
                "--critic none: PPO needs values.", "Use --critic same or a model, or --rl grpo without one."
            )
    word = _or(given["reward"], made, "reward", "rule")
    if _is(word, ("same",)):
        raise InputError(
            "--reward same: a policy does not judge itself.", "Name a reward model, or use --reward rule."
        )
    made.reward = None if _is(word, (*NONE, "rule", "rules", "function")) else word


def _is(value: Any, words: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value.strip().lower() in words


def _apart(value: Any) -> tuple[str, ...]:
    """Roles on GPUs of their own."""
    if value is None or _is(value, ("colocated", "colocate", "together")):
        return ()
    if _is(value, ("separate", "server")):
        return ("rollout",)
    words = value.split(",") if isinstance(value, str) else list(value)
    allowed = tuple(role for role in ROLES if role != "policy")
    try:
        named = {one_word(word, allowed, "--placement") for word in words}
    except InputError as error:
        raise InputError(
            error.problem, f"Use colocated, separate, or the roles that stand apart: {one_of(allowed)}."
        ) from None
    return tuple(role for role in ROLES if role in named)


def _lengths(made: RlAsked, given: dict[str, Any]) -> None:
    """Tokens of prompt and answer, which a sequence is the sum of."""
    for key in ("seq_len", "context", "prompt", "output"):
        if hasattr(given[key], "__len__") and not isinstance(given[key], str):
            raise InputError(
                f"--{key.replace('_', '-')} of an iteration is one number.", "Ask for one length at a time."
            )
    whole = given["context"] if given["context"] is not None else given["seq_len"]
    prompt, output = (
        None if given[key] is None else parse_length(given[key], f"--{key}") for key in ("prompt", "output")
    )
    made.origins["prompt"] = "default" if prompt is None else "given"
    made.origins["output"] = "default" if output is None else "given"
    if whole is None:
        made.prompt, made.output = prompt or PROMPT, output or OUTPUT
        return
    total = parse_length(whole, "--seq-len")
    if prompt is not None and output is not None and prompt + output != total:
        raise InputError(
            f"--seq-len {total:,} is not --prompt {prompt:,} + --output {output:,}, "
            f"which is {prompt + output:,}.",
            "Leave --seq-len out.",
        )
    if prompt is None:
        prompt = total - output if output is not None else min(PROMPT, total // 2)
    made.prompt, made.output = prompt, total - prompt
    if made.prompt < 1 or made.output < 1:
        raise InputError(
            f"--seq-len {total:,} leaves no tokens for prompt and answer.",
            "Give --prompt and --output, whose sum a sequence is.",
        )


def _group(made: RlAsked, given: dict[str, Any]) -> None:
    value = _or(given["group_size"], made, "group_size", GROUP[made.algorithm])
    made.group = parse_integer(value, "--group-size", 10**6)
    if made.algorithm == "grpo" and made.group < 2:
        raise InputError(
            "--group-size 1: GRPO compares the answers to one prompt, and there is nothing to compare.",
            "Use --group-size 2 or more (TRL: 8), or --rl ppo.",
        )


def _waiting(value: Any) -> frozenset[str]:
    if value is None or _is(value, NONE):
        return frozenset()
    words = value.replace("+", ",").split(",") if isinstance(value, str) else list(value)
    return frozenset(one_word(word, WAITING, "--idle-offload") for word in words)


def _bytes(value: Any) -> int:
    return 0 if _is(value, NONE) or value == 0 else int(parse_bytes(value, "--sync-bucket"))


def _engine(made: RlAsked, given: dict[str, Any], gpus: int | None) -> None:
    """The engine's GPUs, its share of them, and whether it sleeps."""
    apart = "rollout" in made.apart
    if made.engine == "none":
        for key in ("rollout_gpus", "rollout_tp", "gpu_memory_utilization", "sleep", "enforce_eager"):
            if given[key] not in (None, False):
                raise InputError(
                    f"--{key.replace('_', '-')} is about the engine that answers; --rollout none has none.",
                    "Use --rollout vllm or sglang.",
                )
        return
    if made.engine == "transformers":
        _own_weights(made, given)
        return
    made.tp = _ranks(made, given, gpus, apart)
    made.eager = bool(given["enforce_eager"])
    made.share = _share(made, given["gpu_memory_utilization"], apart)
    made.level = _level(made, given["sleep"], apart)


def _own_weights(made: RlAsked, given: dict[str, Any]) -> None:
    """Generation of transformers runs with the weights that are trained."""
    if "rollout" in made.apart:
        raise InputError(
            "--rollout transformers generates with the weights that are trained, on the same GPUs.",
            "Use --placement colocated, or --rollout vllm.",
        )
    for key in ("rollout_gpus", "rollout_tp", "gpu_memory_utilization", "sleep", "enforce_eager"):
        if given[key] not in (None, False):
            raise InputError(
                f"--{key.replace('_', '-')} is for a serving engine; transformers has none.",
                "Use --rollout vllm or sglang, or leave it out.",
            )


def _ranks(made: RlAsked, given: dict[str, Any], gpus: int | None, apart: bool) -> int:
    """Tensor ranks of the engine."""
    own = given["rollout_gpus"]
    if apart:
        if own is None:
            raise InputError(
                "--placement separate: how many GPUs does the engine have?",
                "Add --rollout-gpus N; --gpu counts those that train.",
            )
        made.rollout_gpus = parse_integer(own, "--rollout-gpus", 10**6)
        held = made.rollout_gpus
    else:
        if own is not None:
            raise InputError(
                "--rollout-gpus is for an engine on GPUs of its own.", "Add --placement separate."
            )
        held = gpus or 1
    given_tp = given["rollout_tp"]
    tp = held if apart and given_tp is None else 1 if given_tp is None else parse_integer(
        given_tp, "--rollout-tp", 10**4
    )  # fmt: skip
    made.origins["rollout_tp"] = "default" if given_tp is None else "given"
    if held % tp:
        ways = [str(n) for n in range(1, held + 1) if held % n == 0]
        raise InputError(
            f"--rollout-tp {tp} does not divide the {held} GPUs that the engine runs on.",
            f"Use --rollout-tp {one_of(ways[:8])}.",
        )
    return tp


def _share(made: RlAsked, value: Any, apart: bool) -> str | None:
    """The engine's share of a GPU: given, the framework's beside training, or the engine's own."""
    made.origins["gpu_memory_utilization"] = "default" if value is None else "given"
    if value is None:
        return None if apart else str(made.framework.share)
    parsed = parse_decimal(str(value))
    if parsed is None or not 0 < parsed[0] <= parsed[1]:
        raise InputError(
            f"--gpu-memory-utilization is {shown(value)}.", "Use a share of the GPU, such as 0.3."
        )
    return str(value)


def _level(made: RlAsked, value: Any, apart: bool) -> int:
    """At which level the engine sleeps."""
    made.origins["sleep"] = "default" if value is None else "given"
    if value is None:
        return 0 if apart else made.framework.sleep
    level = int(value) if str(value).strip() in ("1", "2") and not isinstance(value, bool) else -1
    if level < 0:
        try:
            level = made.framework.level if flag(value, "--sleep") else 0
        except InputError as error:
            raise InputError(error.problem, "Use on, off, or vLLM's level: 1 or 2.") from None
    if level and apart:
        raise InputError(
            "--sleep makes room for training on the same GPUs; here the engine has its own.",
            "Leave --sleep out, or use --placement colocated.",
        )
    if level == 1 and made.engine == "sglang":
        return 2  # released memory is not copied to the host
    return level
