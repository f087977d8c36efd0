"""`llmcalc.text_metrics`: perplexity, bits per character and byte, and amounts of text."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.text_metrics.question import answer
from llmcalc.catalog import Catalog
from llmcalc.report.call import Call
from llmcalc.report.sheet import Sheet


def text_metrics(
    *,
    loss: Any = None,
    bits_per_token: Any = None,
    perplexity: Any = None,
    nats_per_character: Any = None,
    bits_per_character: Any = None,
    character_perplexity: Any = None,
    nats_per_byte: Any = None,
    bits_per_byte: Any = None,
    byte_perplexity: Any = None,
    compression_ratio: Any = None,
    compression_factor: Any = None,
    nats_per_word: Any = None,
    bits_per_word: Any = None,
    word_perplexity: Any = None,
    log_likelihood: Any = None,
    total_nats: Any = None,
    total_bits: Any = None,
    tokens: Any = None,
    characters: Any = None,
    bytes: Any = None,
    words: Any = None,
    chars_per_token: Any = None,
    bytes_per_token: Any = None,
    bytes_per_char: Any = None,
    tokens_per_word: Any = None,
    chars_per_word: Any = None,
    bytes_per_word: Any = None,
    text: Any = None,
    parts: Any = None,
    tokenizer: Any = None,
    language: Any = None,
    vocab: Any = None,
    entropy: Any = None,
    p: Any = None,
    q: Any = None,
    versus_loss: Any = None,
    versus_bytes_per_token: Any = None,
    versus_tokenizer: Any = None,
    same_tokenizer: bool = False,
    catalog: Any = None,
) -> Sheet:
    """From one measure of a text to all others, and from one amount of text to all others.

    Parameters
    ----------
    loss, bits_per_token, perplexity : float or str, optional
        Cross-entropy per token, or its perplexity; lists of them, with their tokens, are parts of one corpus.
        [nats], [bits], [-]
    nats_per_character, bits_per_character, character_perplexity : float or str, optional
        The same per Unicode code point.
    nats_per_byte, bits_per_byte, byte_perplexity : float or str, optional
        The same per UTF-8 byte.
    compression_ratio, compression_factor : float or str, optional
        Compressed over original size, and its inverse. [-]
    nats_per_word, bits_per_word, word_perplexity : float or str, optional
        The same per word.
    log_likelihood, total_nats, total_bits : float or str, optional
        Of the whole text; the first is the sum of ln p, 0 or less. [nats], [nats], [bits]
    tokens, characters, words : int or str, optional
        What the text has; ``15t`` is decimal. [-]
    bytes : int or str, optional
        The same in bytes: ``825GiB``. [B]
    chars_per_token, bytes_per_token, bytes_per_char : float or str, optional
        How many of one for each of the other. [-]
    tokens_per_word, chars_per_word, bytes_per_word : float or str, optional
        How many of one for each of the other. [-]
    text : str or path, optional
        A text in UTF-8 to be counted; ``-`` is standard input.
    parts : str or path, optional
        A CSV file with a loss and counts a line: the parts of a corpus.
    tokenizer, language : str, optional
        Ratios from the catalog (assumed), where nothing better is given.
    vocab : int, optional
        Tokens to choose from: what guessing evenly would cost. [-]
    entropy : float, optional
        Entropy of the text per token: the divergence is what the loss has above it. [nats]
    p, q : str or sequence of float, optional
        A true distribution and a model's, instead of all others. [-]
    versus_loss, versus_bytes_per_token, versus_tokenizer, same_tokenizer : optional
        Another model on the same text. [nats], [B]
    catalog : str or sequence of str, optional
        YAML files of your own.

    Returns
    -------
    Sheet
        ``nats_per_token``, ``bits_per_token``, ``perplexity``, ``bits_per_character``, ``bits_per_byte``,
        ``bits_per_word``, ``word_perplexity``, ``byte_perplexity``, ``compression_ratio``, ``tokens`` and so
        on; None where nothing gives them.

    Raises
    ------
    LlmcalcError
        For figures that no text has, counts and measures that contradict each other, unreadable files.

    Examples
    --------
    6 bits per token at 2 characters per token are 3 bits per character; of 7 bits each, 3.43 per byte (Huyen,
    "AI Engineering", chapter 3):

    >>> found = text_metrics(bits_per_token=6, chars_per_token=2, bytes_per_char=0.875)
    >>> found.bits_per_character, round(found.bits_per_byte, 2), found.perplexity
    (3.0, 3.43, 64.0)

    GPT-3 on the Pile, 0.7177 bits per byte at 0.29335 tokens per byte (Gao et al. 2020, Table 2):

    >>> found = text_metrics(bits_per_byte=0.7177, bytes_per_token=1 / 0.29335)
    >>> round(found.nats_per_token, 4), round(found.perplexity, 3)
    (1.6958, 5.451)
    """
    given = {key: value for key, value in locals().items() if key != "catalog"}
    book = catalog
    if not isinstance(catalog, Catalog):
        book = Catalog([catalog] if isinstance(catalog, str) else list(catalog or ()))
    sheet = answer(given, book)
    sheet.sign(Call("text_metrics", given | {"catalog": catalog}, "ppl"), book, "tokenizers")
    return sheet
