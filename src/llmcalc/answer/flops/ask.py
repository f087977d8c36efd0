"""Operations of a model: one question, from keywords to figures."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.flops.asked import resolve
from llmcalc.answer.flops.report import flops_answer
from llmcalc.catalog import Catalog
from llmcalc.errors import ConfigError, Problems
from llmcalc.model import readers
from llmcalc.precision import stored_as_declared
from llmcalc.report.call import Call
from llmcalc.report.figures import Figures


def flops(
    model: Any = None,
    *,
    params: Any = None,
    config: Any = None,
    tokens: Any = None,
    context: Any = None,
    phase: str | None = None,
    sequences: Any = None,
    mask: str | None = None,
    head: str | None = None,
    embedding: bool = False,
    mtp: bool = False,
    encoder_tokens: Any = None,
    image_tokens: Any = None,
    recompute: str | None = None,
    method: str | None = None,
    lora_r: Any = None,
    lora_targets: Any = None,
    by: str | None = None,
    dtype: str | None = None,
    quant: str | None = None,
    kv_dtype: str | None = None,
    gpu: Any = None,
    precision: str | None = None,
    throughput: Any = None,
    tflops: Any = None,
    mfu: Any = None,
    hfu: Any = None,
    convention: str | None = None,
    allow_overlong: bool = False,
    assume: str | None = None,
    catalog: Any = None,
) -> Figures:
    """Operations of a model, op by op, beside 2N, 6ND and the conventions of publications.

    Parameters
    ----------
    model, params, config : str, number, dict or Inventory
        The model (one of the three): anything `llmcalc.model` takes.
    tokens : int or str, optional
        Tokens of the whole run, such as ``15t``. [tokens]
    context : int, str or ndarray, optional
        Tokens of one sequence; in decode the positions before the new token. [tokens]
    phase : str
        ``train`` (the default), ``prefill`` or ``decode``.
    sequences : int
        Sequences of a step, for the bytes that it moves. [-]
    mask : str
        ``causal`` (the default): pairs of positions that masks and windows let through; ``half``; ``full``.
    head : str
        The product with the vocabulary for ``all`` positions (the default of training), the ``last`` one or
        ``none``.
    embedding : bool
        Whether the look-up in the embedding counts as a product, as Hoffmann et al. have it.
    mtp : bool
        Whether prediction layers run too.
    encoder_tokens, image_tokens : int or str, optional
        Tokens of the stream that cross-attention reads. [tokens]
    recompute : str
        ``none`` (the default), ``selective`` (attention) or ``full`` (all layers).
    method, lora_r, lora_targets : optional
        ``full`` (the default), ``lora`` or ``qlora``, with rank and modules.
    by : str
        Rows of the table: ``part`` (the default) or ``role``.
    dtype, quant, kv_dtype : str, optional
        What weights and caches are read in; the checkpoint's dtype, and 16 bit.
    gpu, precision : str, optional
        GPUs for the roofline and for MFU, and the precision of their peak (bf16).
    throughput, tflops, mfu, hfu : number or str, optional
        One published speed: tokens/s of all GPUs, TFLOP/s of one, or a share of its peak.
    convention : str, optional
        What that figure counts by; ``exact`` if left out.
    allow_overlong : bool
        Whether the context may exceed the model's limit.
    assume, catalog : optional
        As in `llmcalc.vram`.

    Returns
    -------
    Figures
        ``answer["flops_per_token"].value`` and others; ``answer.grid("conventions").rows``.

    Raises
    ------
    LlmcalcError
        With every mistake of the call and its remedy.

    Notes
    -----
    Counted are matrix products, attention, convolutions and scans; not norms, activations, softmax and
    biases. In training the backward pass is twice the forward one, less what frozen weights save.

    Examples
    --------
    Llama-3.1-405B at 8,192 tokens: 2,524 GFLOP a token, which is what Megatron-Bridge publishes.

    >>> round(flops("llama-3.1-405b", context=8192)["flops_per_token"].value / 1e9)
    2524
    """
    asked = dict(locals())
    given = {
        key: value for key, value in asked.items() if key not in ("model", "params", "config", "catalog")
    }
    book = catalog if isinstance(catalog, Catalog) else Catalog(
        [catalog] if isinstance(catalog, str) else list(catalog or ())
    )  # fmt: skip
    problems = Problems()
    inventory = None
    with problems:
        inventory = stored_as_declared(readers.read_only(model, params, config, assume, book), book)
        if inventory.family == "header":
            raise ConfigError(
                f"{inventory.name}: the header tells the weights, not the layers and their operations.",
                "Put the model's config.json beside it.",
            )
    with problems:
        question = resolve(inventory or readers.read("1b", book), book, given)
    problems.check()
    assert inventory is not None
    from llmcalc.answer.flops.tables import formats

    stored, bits, kv_bytes = formats(inventory, book, dtype, quant, kv_dtype)
    answer = flops_answer(stored, question, bits, kv_bytes)
    answer.sign(Call("flops", asked), book)
    return answer
