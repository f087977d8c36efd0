"""Text metrics: worked examples of the literature, identities, files, and bad input."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmcalc
from llmcalc.catalog import Catalog
from llmcalc.text.counting import count, count_file
from llmcalc.text.distributions import cross_entropy, distribution, entropy

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs/schema/text_metrics.schema.json").read_text(encoding="utf-8")
)
metrics = llmcalc.text_metrics


# -- published figures -----------------------------------------------------------------------------


def test_six_bits_per_token():
    """C. Huyen, AI Engineering, chapter 3."""
    found = metrics(bits_per_token=6, chars_per_token=2, bytes_per_char=0.875)
    assert found.bits_per_character == 3
    assert found.bits_per_byte == pytest.approx(3.428571, abs=5e-7)
    assert found.compression_ratio == pytest.approx(0.43, abs=0.005)
    assert found.perplexity == 64


def test_perplexity_three_is_one_in_three():
    found = metrics(perplexity=3)
    assert found.mean_probability == pytest.approx(1 / 3, rel=1e-12)
    assert found.nats_per_token == pytest.approx(math.log(3))
    assert found.bits_per_token == pytest.approx(math.log2(3))
    assert "one in 3" in " ".join(found.to_text().split())


@pytest.mark.parametrize(
    ("bpb", "nats", "perplexity"), [(0.7177, 1.6958, 5.451), (1.0468, 2.4735, 11.86), (1.2253, 2.8952, 18.09)]
)
def test_pile(bpb, nats, perplexity):
    """L. Gao et al. 2020, Table 2 (GPT-3, GPT-2 XL, GPT-2 small), 0.29335 tokens per byte (section 3.1)."""
    found = metrics(bits_per_byte=bpb, bytes_per_token=1 / 0.29335)
    assert round(found.nats_per_token, 4) == pytest.approx(nats, abs=1.01e-4)
    assert found.perplexity == pytest.approx(perplexity, abs=0.0051)
    back = metrics(loss=found.nats_per_token, bytes_per_token=1 / 0.29335)
    assert back.bits_per_byte == pytest.approx(bpb, rel=1e-12)


def test_gpt3_in_bits_per_token():
    found = metrics(bits_per_byte=0.7177, bytes_per_token=1 / 0.29335)
    assert round(found.bits_per_token, 4) in (2.4465, 2.4466)


def test_gpt2_on_enwik8():
    """A. Radford et al. 2019, Table 3: 0.93 bits per byte."""
    found = metrics(bits_per_byte=0.93)
    assert round(found.byte_perplexity, 3) == 1.905
    assert round(found.compression_ratio, 3) == 0.116
    assert round(found.compression_factor, 2) == 8.60


def test_lm_evaluation_harness():
    """Issue 806: Llama-2-7b on WikiText, to all digits printed."""
    found = metrics(byte_perplexity=1.5015845643537054, word_perplexity=8.792073612124492)
    assert found.bits_per_byte == pytest.approx(0.5864857250704371, rel=1e-12)
    assert round(found.bytes_per_word, 4) == 5.3475
    again = metrics(byte_perplexity=1.5015845643537054, bytes_per_word=found.bytes_per_word)
    assert again.word_perplexity == pytest.approx(8.792073612124492, rel=1e-12)


def test_chinchilla_and_kaplan():
    assert round(metrics(loss=1.69).bits_per_token, 3) == 2.438
    assert round(metrics(loss=1.7, chars_per_token=4.3).bits_per_character, 3) == 0.570


def test_cerebras():
    """1.572 nats per GPT-2 token of the Pile."""
    assert round(metrics(loss=1.572, bytes_per_token=1 / 0.29335).bits_per_byte, 4) == 0.6653


@pytest.mark.parametrize(("vocabulary", "nats"), [(50257, 10.825), (32000, 10.373), (128256, 11.762)])
def test_guessing_evenly(vocabulary, nats):
    assert round(metrics(loss=2, vocab=vocabulary).uniform_nats_per_token, 3) == nats
    assert metrics(loss=math.log(vocabulary)).perplexity == pytest.approx(vocabulary)


def test_shannon_symbols():
    assert round(metrics(character_perplexity=27).bits_per_character, 3) == 4.755
    assert round(metrics(character_perplexity=26).bits_per_character, 3) == 4.700


def test_polish_bytes_and_characters():
    """Bits per character and per byte differ by the bytes of a character: 1.0505 in Polish text."""
    for density in (1.0505, 1.0033):
        found = metrics(bits_per_byte=1.0, bytes_per_char=density)
        assert found.bits_per_character == pytest.approx(density)


def test_the_pile_in_tokens():
    found = metrics(bytes="825GiB", bytes_per_token=1 / 0.29335)
    assert found.tokens == pytest.approx(2.6e11, rel=0.005)
    assert metrics(tokens="1t", bytes_per_token=4.3).bytes == pytest.approx(4.3e12)
    assert metrics(bytes="1GB", bytes_per_token=4.3).tokens == pytest.approx(2.3e8, rel=0.02)


# -- identities ------------------------------------------------------------------------------------

MEASURES = (
    "loss", "bits_per_token", "perplexity", "bits_per_character", "bits_per_byte", "bits_per_word",
    "nats_per_byte", "byte_perplexity", "word_perplexity", "compression_ratio", "compression_factor",
    "total_bits", "total_nats",
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    loss=st.floats(0.01, 12),
    tokens=st.integers(1, 10**9),
    name=st.sampled_from(MEASURES),
)
def test_any_measure_gives_all_others(loss, tokens, name):
    counts = {"tokens": tokens, "bytes": 4 * tokens + 3, "characters": 4 * tokens + 1, "words": tokens}
    first = metrics(loss=loss, **counts)
    value = first.nats_per_token if name == "loss" else first[name]
    again = metrics(**{name: value}, **counts)
    for key in ("nats_per_token", "bits_per_byte", "word_perplexity", "total_bits", "bits_per_character"):
        assert again[key] == pytest.approx(first[key], rel=1e-9)
    assert first.perplexity == pytest.approx(2**first.bits_per_token, rel=1e-12)
    assert first.perplexity == pytest.approx(math.exp(first.nats_per_token), rel=1e-12)
    assert set(first.grades.values()) == {"exact"}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=8))
def test_cross_entropy_is_entropy_and_divergence(pairs):
    p, q = ([one / math.fsum(side) for one in side] for side in zip(*pairs, strict=True))
    found = metrics(p=p, q=q)
    assert found.cross_entropy_nats == pytest.approx(found.entropy_nats + found.kl_nats, abs=1e-12)
    assert found.cross_entropy_bits == pytest.approx(found.cross_entropy_nats / math.log(2))
    assert found.kl_nats >= 0
    assert found.perplexity == pytest.approx(2**found.cross_entropy_bits)
    assert found.kl_nats == pytest.approx(
        sum(a * math.log(a / b) for a, b in zip(distribution(p, ""), distribution(q, ""), strict=True)),
        abs=1e-9,
    )


def test_entropy_of_a_uniform_source():
    assert entropy([1 / 8] * 8) / math.log(2) == pytest.approx(3)
    assert cross_entropy([1, 0], [0.25, 0.75]) == pytest.approx(math.log(4))


def test_divergence_from_an_entropy():
    assert metrics(loss=1.94, entropy=1.69).kl_nats == pytest.approx(0.25)


# -- parts of a corpus -----------------------------------------------------------------------------


def test_parts_are_weighted_by_tokens(tmp_path):
    found = metrics(loss=[2.1, 1.4], tokens=["1b", "3b"])
    assert found.nats_per_token == pytest.approx((2.1 + 3 * 1.4) / 4)
    assert found.parts["mean_perplexity"] == pytest.approx((math.exp(2.1) + math.exp(1.4)) / 2)
    assert found.parts["mean_perplexity"] > found.perplexity
    file = tmp_path / "parts.csv"
    file.write_text("name,loss,tokens,bytes\na,2.1,1000,4000\n\nb,1.4,3000,15000\n")
    read = metrics(parts=file)
    assert read.nats_per_token == pytest.approx(found.nats_per_token)
    assert read.bytes_per_token == pytest.approx(19 / 4)
    assert read.bits_per_byte == pytest.approx(read.bits_per_token / 4.75)
    arrays = metrics(loss=np.array([2.1, 1.4]), tokens=np.array([1000, 3000]))
    assert arrays.nats_per_token == pytest.approx(found.nats_per_token)


def test_bits_per_byte_of_parts_are_weighted_by_bytes():
    found = metrics(bits_per_byte=[1.0, 0.5], bytes=[1000, 3000])
    assert found.bits_per_byte == pytest.approx(0.625)


def test_even_weights_never_beat_the_worst_part():
    found = metrics(perplexity=[10, 1000], tokens=[500, 500])
    assert found.perplexity == pytest.approx(100)
    assert found.parts["mean_perplexity"] == pytest.approx(505)


# -- texts -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), st.integers(1, 7)
)
def test_counting_in_pieces_is_counting(text, size):
    raw = text.encode()
    found = count(iter([raw[at : at + size] for at in range(0, len(raw), size)]), "text")
    assert (found.bytes, found.characters, found.words) == (len(raw), len(text), len(text.split()))


def test_a_file_and_its_measures(tmp_path):
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffna\u00efve caf\u00e9 \u4f60\u597d\n".encode())
    counts = count_file(file)
    assert (counts.bytes, counts.characters, counts.words, counts.marked) == (23, 15, 3, True)
    found = metrics(bits_per_byte=1, text=file, tokens=8)
    assert found.bits_per_character == pytest.approx(23 / 15)
    assert found.total_bits == pytest.approx(23)
    assert any("byte order mark" in one for one in found.warnings)


def test_standard_input():
    done = call("--text", "-", "--bpb", "1", "--json", stdin=b"h\xc3\xa9llo w\n")
    found = json.loads(done.stdout)
    assert found["text"] == {"bytes": 9, "characters": 8, "words": 2, "split_words": 3}


# -- tokenizers ------------------------------------------------------------------------------------


def test_nothing_is_assumed_unasked():
    found = metrics(loss=2, tokens=1000)
    assert found.bytes is None
    assert found.bits_per_byte is None


def test_a_tokenizer_is_assumed_with_a_range():
    found = metrics(loss=2, tokenizer="gpt-2", language="en")
    assert found.chars_per_token == pytest.approx(4.3)
    assert found.grades["byte"] == "assumed"
    low, high = found.bits_per_character_range
    assert low == pytest.approx(found.bits_per_token / (8635 / 1666))
    assert high == pytest.approx(found.bits_per_character)
    assert metrics(loss=2, tokenizer="gpt-2", language="en", bytes_per_token=3.4).bytes_per_token == 3.4


def test_languages_keep_their_ratio_to_english():
    """UDHR, o200k: Hindi takes 1.60 times the tokens of English for the same declaration."""
    hindi, english = (metrics(tokens=1, tokenizer="o200k", language=one) for one in ("hindi", "english"))
    assert (9040 / hindi.chars_per_token) / (8635 / english.chars_per_token) == pytest.approx(1.60, abs=0.01)
    assert round(metrics(characters=100, language="hi").bytes_per_char, 3) == 2.604


def test_every_tokenizer_has_every_text():
    book = Catalog.shipped()
    names = {entry["name"] for entry in book.entries("texts")}
    assert len(names) == 30
    for entry in book.entries("tokenizers"):
        assert set(entry["tokens"]) == names


def test_losses_of_two_tokenizers():
    with pytest.raises(llmcalc.LlmcalcError, match="can't be compared"):
        metrics(loss=2, versus_loss=1.9)
    found = metrics(loss=2.0, bytes_per_token=4.0, versus_loss=2.2, versus_bytes_per_token=4.8)
    assert found.versus["verdict"] == "the second is better"  # though its loss per token is higher
    assert metrics(loss=2, versus_loss=1.9, same_tokenizer=True).versus["verdict"] == "the second is better"
    close = metrics(loss=2, tokenizer="gpt2", versus_loss=2.0, versus_tokenizer="cl100k", language="english")
    assert close.versus["verdict"] == "too close to call"


# -- shapes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"bits_per_token": 6, "chars_per_token": 2, "bytes_per_char": 0.875},
        {"perplexity": 3},
        {"tokens": "15t", "tokenizer": "llama-3", "language": "english"},
        {"loss": [2.1, 1.4], "tokens": [10, 30], "vocab": 50257},
        {"loss": 2, "entropy": 1.7, "versus_loss": 1.9, "same_tokenizer": True},
        {"p": "0.5,0.25,0.25", "q": "0.25,0.25,0.5"},
        {"bits_per_byte": 200},
        {"word_perplexity": 1},
    ],
    ids=str,
)
def test_every_shape(asked):
    found = metrics(**asked)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(found.to_json()))
    assert all(len(line) <= 80 for line in found.to_text().splitlines())
    for text in (found.to_markdown(), found.to_latex(), found.to_html(), found.explain()):
        assert len(text) > 90
    assert found.to_csv().startswith("quantity,value,grade")
    assert len(found.to_frame()) > 2


def test_the_schema_is_sound_and_strict():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    good = metrics(loss=2).to_dict()
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert validator.is_valid({**good, "added_later": 1})
    for key in ("nats_per_token", "perplexity", "grades", "llmcalc"):
        assert not validator.is_valid({name: value for name, value in good.items() if name != key})


def test_explained_by_formulas():
    text = metrics(bits_per_token=6, chars_per_token=2, bytes_per_char=0.875).explain()
    for part in ("bits_per_unit = bits * units / other_units", "compression_share = bits_per_byte / 8"):
        assert part in text


def test_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    metrics(loss=2, bytes_per_token=4).plot(str(tmp_path / "ppl.png"))
    assert (tmp_path / "ppl.png").stat().st_size > 1000


# -- the command line ------------------------------------------------------------------------------


def call(*words, stdin=None):
    command = [sys.executable, "-m", "llmcalc", "ppl", *words]
    return subprocess.run(command, capture_output=True, timeout=60, input=stdin, check=False)


def test_the_call_is_repeated():
    done = call("--loss", "2.1", "--tokens", "1b", "--loss", "1.4", "--tokens", "3b", "--format", "markdown")
    assert b"llmcalc ppl --loss 2.1 --loss 1.4 --tokens 1b --tokens 3b (" in done.stdout
    done = call("--nats-per-token", "2.1", "--bytes-per-token", "4.3", "--python")
    assert done.stdout.decode().endswith("llmcalc.text_metrics(loss='2.1', bytes_per_token='4.3')\n")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("--bits-per-token 1.69", "For nats use --loss"),
        ("--bpb 0.4065", "in nats, it is 0.586"),
        ("--loss 4.2 --bytes-per-token 3.4", "For bits use --bits-per-token"),
        ("--loss 15.6 --vocab 50257", "worse than guessing evenly"),
        ("--bpb 9", "more than the text itself has"),
        ("--tokens 500 --bytes 400", "more tokens than bytes"),
    ],
)
def test_hints_on_confused_units(words, hint):
    done = call(*words.split())
    assert done.returncode == 0
    assert hint in done.stderr.decode()


def test_plausible_figures_get_no_hint():
    for words in (
        "--loss 2.4735 --bytes-per-token 3.409",
        "--bpb 0.7177",
        "--bits-per-token 2.44",
        "--ppl 12",
    ):
        assert call(*words.split()).stderr == b""


FILES = {
    "empty.txt": b"",
    "latin.txt": b"caf\xe9 x",
    "zero.txt": b"ab\0cd",
    "cut.txt": b"ok caf\xc3",
    "bad.csv": b"loss,tokens\n2.1,1000\n1.9,x\n",
    "none.csv": b"loss,tokens\n",
    "odd.csv": b"losses,tokens\n1,2\n",
    "two.csv": b"loss,bits_per_token,tokens\n1,2,3\n",
    "weight.csv": b"loss,bytes\n1,2\n",
    "latin.csv": b"loss,tok\xe9\n1,2\n",
}


@pytest.mark.parametrize(
    ("words", "names", "remedy"),
    [
        ("", "nothing to convert", "--loss"),
        ("--ppl 0.5", "a perplexity is 1 or more", "--loss"),
        ("--word-perplexity 0.99", "a perplexity is 1 or more", "--nats-per-word"),
        ("--loss -1", "negative", "2.1"),
        ("--loss nan", "not a finite number", "2.1"),
        ("--ppl 1e400", "not a finite number", "12.3"),
        ("--loss two", "'two'", "2.1"),
        ("--loss 1e9", "above what makes sense", "--total-nats"),
        ("--loss 50%", "no share", "2.1"),
        ("--loss 2.1 --bits-per-token 2.1", "contradict", "nats taken for bits"),
        ("--loss 2.1 --ppl 4.287", "contradict", "nats taken for bits"),
        ("--bpb 0.4065 --byte-perplexity 1.50158", "contradict", "bits taken for nats"),
        ("--bpc 1.2 --bpb 1.2 --bytes-per-char 1.84", "contradict", "enwik8"),
        ("--loss 2 --ppl 9", "contradict", "correct it"),
        ("--loss 2 --tokens 0", "above 0", "15t"),
        ("--tokens -5", "above 0", "15t"),
        ("--bytes 0", "above 0", "4.3GB"),
        ("--bytes -1GB", "negative", "24GiB"),
        ("--tokens 2.5", "not a whole number", "15t"),
        ("--chars-per-token 0", "above 0", "4.3"),
        ("--loss 2 --tokens 100 --bytes 400 --bytes-per-token 5", "contradicts", "Leave one"),
        ("--text empty.txt", "is empty", "holds text"),
        ("--text latin.txt", "byte 3", "iconv"),
        ("--text zero.txt", "byte 2 is zero", "UTF-8"),
        ("--text cut.txt", "cut off", "whole file"),
        ("--text nofile.txt", "No such file", "path"),
        ("--text .", "can't be read", "path"),
        ("--text latin.txt --ppl 0.5", "2. --perplexity", "iconv"),
        ("--loss 2 --tokenizer gpt2", "language", "--bytes-per-token"),
        ("--loss 2 --tokenizer gtp2 --language english", "'gtp2'", "Did you mean gpt2?"),
        ("--loss 2 --language klingon", "'klingon'", "--bytes-per-char"),
        ("--log-likelihood 5 --tokens 3", "0 or less", "--total-nats"),
        ("--log-likelihood -500", "no count is known", "--tokens"),
        ("--loss 2 --versus-loss 1.8", "can't be compared", "--same-tokenizer"),
        ("--loss 2 --same-tokenizer", "no loss to go with", "--versus-loss"),
        ("--loss 2 --loss 3", "no weight", "every part"),
        ("--loss 2 --loss 3 --tokens 5 --tokens 6 --tokens 7", "do not pair up", "same order"),
        ("--tokens 5 --tokens 6", "no loss of them", "--loss"),
        ("--parts bad.csv", "line 3: --tokens is 'x'", "whole number"),
        ("--parts none.csv", "no parts", "loss,tokens"),
        ("--parts odd.csv", "'losses'", "loss"),
        ("--parts two.csv", "loss and bits_per_token", "one of"),
        ("--parts weight.csv", "no weight", "tokens"),
        ("--parts latin.csv", "not UTF-8", "path"),
        ("--parts no.csv", "No such file", "path"),
        ("--entropy 3 --loss 2", "above the loss", "in bits"),
        ("--entropy 1 --bpb 1", "not known", "--loss"),
        ("--p 0.5,0.6", "adds up to 1.1", "Divide"),
        ("--p 0.5,-0.5,1", "no probability", "0 to 1"),
        ("--p 0.5,0.5 --q 1,0", "infinite", "some probability"),
        ("--p 0.5,0.5 --q 1", "2 probabilities", "same outcomes"),
        ("--q 1", "true distribution", "--p"),
        ("--p 1 --loss 2", "stand alone", "of their own"),
        ("--loss 2 --vocab 0", "above 0", "15t"),
        ("--loss 2 --format xml", "'xml'", "markdown"),
        ("--loss 2 --plot x.xyz", "suffix", ".png"),
    ],
)
def test_bad_input(words, names, remedy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, raw in FILES.items():
        Path(name).write_bytes(raw)
    done = call(*words.split(), stdin=b"")
    told = done.stderr.decode()
    assert done.returncode == 2, told
    assert done.stdout == b""
    assert "Traceback" not in told
    assert "Internal error" not in told
    problem, _, last = told.strip().rpartition("\n")
    assert names in problem
    assert remedy in last


def test_empty_standard_input():
    done = call("--text", "-", stdin=b"")
    assert done.returncode == 2
    assert b"standard input is empty" in done.stderr


def test_large_exponents_are_read_as_they_are():
    assert llmcalc.text_metrics(perplexity="1e200").bits_per_token == pytest.approx(200 * math.log2(10))


def test_a_loss_above_guessing_may_be_in_bits():
    """12 nats are above ln 128,256; a loss of 11 is what training of such a model begins with."""
    assert any("--bits-per-token" in hint for hint in llmcalc.text_metrics(loss=12).hints)
    assert not llmcalc.text_metrics(loss=11).hints
