"""``llmcalc ppl``."""

from __future__ import annotations

from typing import Any

import click

from llmcalc.cli.options import list_output_options, respond, stack

SEVERAL = (
    "loss",
    "bits_per_token",
    "perplexity",
    "bits_per_byte",
    "log_likelihood",
    "tokens",
    "characters",
    "bytes",
    "words",
)
"""Options that may be given once for each part of a corpus."""


def _measure(*names: str, help: str, metavar: str = "X") -> Any:
    keyword = names[-1].lstrip("-").replace("-", "_")
    return click.option(*names, keyword, metavar=metavar, multiple=keyword in SEVERAL, help=help)


measure_options = stack(
    _measure("--nats-per-token", "--loss", help="Cross-entropy per token, as PyTorch prints it. [nats]"),
    _measure("--bits-per-token", help="The same in bits."),
    _measure("--ppl", "--perplexity", help="Perplexity per token."),
    _measure("--bpc", "--bits-per-character", help="Bits per character (Unicode code point)."),
    _measure("--bpb", "--bits-per-byte", help="Bits per byte of UTF-8."),
    _measure("--bits-per-word", help="Bits per word."),
    _measure("--nats-per-character", help="Nats per character."),
    _measure("--nats-per-byte", help="Nats per byte."),
    _measure("--nats-per-word", help="Nats per word."),
    _measure("--character-perplexity", help="Perplexity per character."),
    _measure("--byte-perplexity", help="Perplexity per byte, as lm-evaluation-harness has it."),
    _measure("--word-perplexity", help="Perplexity per word, likewise."),
    _measure("--compression-ratio", help="Compressed over original size: 0.12 or 12%."),
    _measure("--compression-factor", help="How many times smaller: 8.6."),
    _measure("--log-likelihood", help="Sum of ln p over the text, 0 or less. [nats]"),
    _measure("--total-nats", help="The same without its minus."),
    _measure("--total-bits", help="The same in bits."),
)

text_options = stack(
    click.option(
        "--text", metavar="FILE|-", help="A text in UTF-8, to count its bytes, characters and words."
    ),
    click.option(
        "--tokens", metavar="N", multiple=True, help="Tokens of the text: 1500, 300b, 15t (decimal)."
    ),
    click.option("--characters", metavar="N", multiple=True, help="Its characters."),
    click.option("--bytes", metavar="SIZE", multiple=True, help="Its bytes: 4.3GB, 825GiB."),
    click.option("--words", metavar="N", multiple=True, help="Its words."),
    click.option("--chars-per-token", metavar="X", help="Characters of a token."),
    click.option("--bytes-per-token", metavar="X", help="Bytes of a token."),
    click.option("--bytes-per-char", metavar="X", help="Bytes of a character."),
    click.option("--tokens-per-word", metavar="X", help="Tokens of a word."),
    click.option("--chars-per-word", metavar="X", help="Characters of a word."),
    click.option("--bytes-per-word", metavar="X", help="Bytes of a word."),
    click.option("--tokenizer", metavar="NAME", help="Assume this one's ratios: gpt2, o200k, llama-3 ..."),
    click.option("--language", metavar="NAME", help="The language for that: english, de, python ..."),
    click.option(
        "--parts", metavar="FILE|-", help="A CSV file, a part of the corpus a line: loss,tokens,bytes."
    ),
)

more_options = stack(
    click.option("--vocab", metavar="N", help="Tokens to choose from: what guessing evenly costs."),
    click.option("--entropy", metavar="NATS", help="Entropy per token: how far the loss is above it."),
    click.option("--p", metavar="P,P,P", help="A distribution: its entropy."),
    click.option("--q", metavar="P,P,P", help="A model's distribution beside it: cross-entropy, divergence."),
    click.option("--versus-loss", metavar="NATS", help="Another model's loss per token on the same text."),
    click.option("--versus-bytes-per-token", metavar="X", help="Bytes of its tokens on that text."),
    click.option("--versus-tokenizer", metavar="NAME", help="Its tokenizer, with --language (assumed)."),
    click.option("--same-tokenizer", is_flag=True, help="Both models have one tokenizer."),
    click.option("--catalog", metavar="FILE", multiple=True, help="A YAML file with tokenizers of your own."),
)

sheet_options = stack(
    list_output_options,
    click.option("--explain", is_flag=True, help="Add formula, values, validity and source of each line."),
    click.option("--plot", metavar="FILE", help="Draw a picture (needs the plot extra)."),
    click.option("--python", is_flag=True, help="Print the call of the Python API instead."),
)


@click.command("ppl", short_help="Perplexity, bits per byte, amounts of text.")
@measure_options
@text_options
@more_options
@sheet_options
def command(**options: Any) -> int:
    """From one measure of a text to all others: loss, perplexity, bits per character, byte and word.

    Between units (token, character, byte, word) it needs how many of each the text has: counts, ratios, or
    the text itself. Without a measure it converts amounts of text. Several --loss with their --tokens are
    parts of one corpus.

    \b
    llmcalc ppl --bits-per-token 6 --chars-per-token 2 --bytes-per-char 0.875
    llmcalc ppl --loss 2.1 --tokens 4312 --text chapter.txt
    llmcalc ppl --loss 2.1 --tokens 1b --loss 1.4 --tokens 3b
    llmcalc ppl --tokens 15t --tokenizer llama-3 --language english
    """
    from llmcalc.api.text import text_metrics

    for name in SEVERAL:
        found = options[name]
        options[name] = None if not found else found[0] if len(found) == 1 else list(found)
    return respond(text_metrics, {**options, "units": "gib"})
