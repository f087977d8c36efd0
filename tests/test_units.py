"""Numbers, lengths and sizes: text in, exact integers inside, text out."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcalc import units
from llmcalc.errors import InputError

EXACT = settings(derandomize=True, deadline=None, max_examples=200)


# -- golden values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("13b", 13 * 10**9),
        ("13B", 13 * 10**9),
        (" 13 b ", 13 * 10**9),
        ("13g", 13 * 10**9),
        ("405B", 405 * 10**9),
        ("7.24e9", 7_240_000_000),
        ("7.24E9", 7_240_000_000),
        ("7.24e+9", 7_240_000_000),
        ("7.24b", 7_240_000_000),
        ("124m", 124_000_000),
        ("15t", 15 * 10**12),
        ("1.5k", 1500),
        ("0.5b", 500_000_000),
        (".5b", 500_000_000),
        ("1q", 10**15),
        ("1", 1),
        ("+8", 8),
        ("13_000_000_000", 13 * 10**9),
        ("13,000,000,000", 13 * 10**9),
        (13_000_000_000, 13 * 10**9),
        (7.24e9, 7_240_000_000),
        (np.int64(13_000_000_000), 13 * 10**9),
        (np.float64(7.24e9), 7_240_000_000),
        (Fraction(26, 2), 13),
    ],
)
def test_counts_are_decimal(text, number):
    found = units.parse_count(text)
    assert (found, type(found)) == (number, int)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("8k", 8192),
        ("8K", 8192),
        ("32k", 32_768),
        ("128k", 131_072),
        ("0.5k", 512),
        ("1m", 1_048_576),
        ("10m", 10_485_760),
        ("4096", 4096),
        ("8192.0", 8192),
        ("1e6", 1_000_000),
        (4096, 4096),
    ],
)
def test_lengths_are_binary(text, tokens):
    found = units.parse_length(text)
    assert (found, type(found)) == (tokens, int)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("8k", 8000),
        ("8K", 8192),
        ("25.6k", 25_600),
        ("1m", 1_000_000),
        ("1M", 1_048_576),
        ("1g", 10**9),
        ("1G", 2**30),
        ("8192", 8192),
        (8192, 8192),
    ],
)
def test_max_model_len_is_read_as_vllm_reads_it(text, tokens):
    assert units.parse_max_model_len(text) == tokens


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 * 2**30),
        ("24gib", 24 * 2**30),
        ("24 GiB", 24 * 2**30),
        ("24576MiB", 24 * 2**30),
        ("25165824KiB", 24 * 2**30),
        ("24GB", 24 * 10**9),
        ("24000MB", 24 * 10**9),
        ("24G", 24 * 2**30),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        ("512", 512),
        ("512B", 512),
        ("1.5GiB", 3 * 2**29),
        ("0", 0),
        (0, 0),
        (1024, 1024),
    ],
)
def test_sizes_are_taken_as_written(text, size):
    found = units.parse_bytes(text, "--reserve")
    assert (found, type(found)) == (size, int)


def test_three_ways_to_write_24():
    gib, gb, mib = (units.parse_bytes(text, "--reserve") for text in ("24GiB", "24GB", "24576MiB"))
    assert gib == mib
    assert gib - gb == 1_769_803_776


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("4", 4),
        ("16", 16),
        ("64", 64),
        ("4.5", Fraction(9, 2)),
        ("1.58", Fraction(79, 50)),
        (4, 4),
        (4.0, 4),
        (4.25, Fraction(17, 4)),
        (Fraction(17, 2), Fraction(17, 2)),
    ],
)
def test_bits(text, bits):
    assert units.parse_bits(text) == bits


def test_whole_bits_are_integers():
    assert type(units.parse_bits("4.0")) is int
    assert type(units.parse_bits(8.0)) is int


# -- refusals -----------------------------------------------------------------------------------

NO_NUMBER = [
    "", " ", "abc", "13x", "b", "k", ".", "-", "+", "e9", "1e", "1e+", "1.5.5", "0x10", "1 2 z", "--5", "+-5",
    "inf", "-inf", "infinity", "nan", "NaN", "1/2", "٣", "½", "1e1e1", "\0", "13b\0", "9" * 5000, "1b b",
    float("inf"), float("-inf"), float("nan"), None, True, False, [], [1], {}, object(), b"13b", 1j,
]  # fmt: skip


def short(value: object) -> str:
    return repr(value)[:20]


PARSERS = {
    "count": units.parse_count,
    "length": units.parse_length,
    "max_model_len": units.parse_max_model_len,
    "integer": lambda value: units.parse_integer(value, "--tp"),
    "bytes": lambda value: units.parse_bytes(value, "--reserve"),
    "bits": units.parse_bits,
}
WHOLE = ("count", "length", "max_model_len", "integer")


def refuse(parser: str, value: object) -> InputError:
    with pytest.raises(InputError) as caught:
        PARSERS[parser](value)
    error = caught.value
    assert error.problem.startswith("--")
    assert error.remedy.startswith("Use ")
    assert len(str(error)) < 400
    return error


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("value", NO_NUMBER, ids=short)
def test_what_is_no_number_is_refused(parser, value):
    refuse(parser, value)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("value", ["-1", "-13", "-0.5", "-1e400", -1, -0.5, np.int64(-3)])
def test_negatives_are_refused(parser, value):
    assert str(value) in refuse(parser, value).problem


@pytest.mark.parametrize("parser", [*WHOLE, "bits"])
@pytest.mark.parametrize("value", ["0", "0.0", "-0", "0e400", 0, 0.0])
def test_zero_is_refused(parser, value):
    assert str(value) in refuse(parser, value).problem


@pytest.mark.parametrize("parser", WHOLE)
@pytest.mark.parametrize("value", ["1.5", "0.1", "1e-400", "1e-999999999999", 1.5, Fraction(1, 3)])
def test_fractions_are_refused_where_only_whole_numbers_count(parser, value):
    assert "whole number" in refuse(parser, value).problem


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("value", ["1e400", "1e999999999999", "1e30", "9" * 50, 1e300, 10**400], ids=short)
def test_absurd_sizes_are_refused(parser, value):
    refuse(parser, value)


@pytest.mark.parametrize("value", ["0", "65", "64.0001", "128", "-4"])
def test_bits_outside_0_to_64(value):
    error = refuse("bits", value)
    assert value in error.problem
    assert "64" in error.remedy


@pytest.mark.parametrize(
    ("parser", "text"), [("length", "1b"), ("integer", "8k"), ("count", "8GiB"), ("bits", "4b")]
)
def test_a_suffix_of_another_kind_is_refused(parser, text):
    assert text in refuse(parser, text).problem


@pytest.mark.parametrize(
    ("parser", "most"), [("count", 10**18), ("length", 10**12), ("integer", 10**9), ("bytes", 10**18)]
)
def test_the_largest_that_makes_sense_is_allowed_and_one_more_is_not(parser, most):
    assert PARSERS[parser](str(most)) == most
    refuse(parser, str(most + 1))


# -- exactness ----------------------------------------------------------------------------------


def test_eighteen_digits_stay_exact():
    assert units.parse_count("123456789012345678") == 123456789012345678
    assert units.parse_count("123456789012345.678k") == 123456789012345678
    assert units.parse_count("1.23456789012345678e17") == 123456789012345678
    assert units.parse_bytes("999999999999999999", "--reserve") == 999999999999999999


@EXACT
@given(st.integers(1, 10**18))
def test_any_whole_count_comes_back(number):
    assert units.parse_count(str(number)) == number
    assert units.parse_count(f"{number:,}") == number
    assert units.parse_count(number) == number
    assert units.parse_count(f"{number}e0") == number


@EXACT
@given(st.integers(1, 10**9 - 1), st.integers(0, 9))
def test_a_decimal_point_only_moves_the_value(number, places):
    digits = str(number).rjust(places + 1, "0")
    text = f"{digits[: len(digits) - places]}.{digits[len(digits) - places :]}" if places else digits
    assert units.parse_count(f"{text}b") * 10**places == number * 10**9
    assert units.parse_count(f"{text}e9") * 10**places == number * 10**9


@EXACT
@given(st.integers(1, 10**6))
def test_lengths_scale_by_1024(number):
    assert units.parse_length(f"{number}k") == number * 1024
    assert units.parse_length(f"{number}K") == number * 1024
    assert units.parse_max_model_len(f"{number}k") == number * 1000
    assert units.parse_max_model_len(f"{number}K") == number * 1024


@EXACT
@given(st.integers(0, 10**5), st.sampled_from(["k", "m", "g", "t"]))
def test_decimal_sizes_are_smaller_than_binary_ones(number, letter):
    decimal = units.parse_bytes(f"{number}{letter}b", "--reserve")
    binary = units.parse_bytes(f"{number}{letter}ib", "--reserve")
    bare = units.parse_bytes(f"{number}{letter}", "--reserve")
    assert bare == binary
    assert (decimal < binary) if number else (decimal == binary == 0)


@EXACT
@given(st.integers(1, 6400), st.sampled_from([1, 10, 100]))
def test_bits_are_exact_fractions(number, scale):
    text = f"{number / scale:.2f}"
    if number > 64 * scale:
        refuse("bits", text)
    else:
        assert units.parse_bits(text) == Fraction(number, scale)


@EXACT
@given(st.floats(allow_nan=True, allow_infinity=True))
def test_any_float_is_read_exactly_or_refused(value):
    try:
        found = units.parse_count(value)
    except InputError:
        assert not (math.isfinite(value) and value == int(value) and 1 <= value <= 10**18)
    else:
        assert found == value


# -- text out -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "unit", "text"),
    [
        (7_800_000_000, "gib", "7.26 GiB"),
        (7_800_000_000, "gb", "7.80 GB"),
        (7_800_000_000, "mib", "7,438.66 MiB"),
        (7_800_000_000, "bytes", "7,800,000,000 bytes"),
        (2**30, "gib", "1.00 GiB"),
        (2**30, "gb", "1.07 GB"),
        (0, "gib", "0.00 GiB"),
        (2**50, "gib", "1,048,576.00 GiB"),
    ],
)
def test_format_bytes(size, unit, text):
    assert units.format_bytes(size, unit) == text


@EXACT
@given(st.integers(0, 10**15))
def test_gb_never_stands_for_a_binary_unit(size):
    for unit, factor in (("gib", 2**30), ("gb", 10**9), ("mib", 2**20), ("bytes", 1)):
        number, label = units.format_bytes(size, unit).split(" ")
        assert label == {"gib": "GiB", "gb": "GB", "mib": "MiB", "bytes": "bytes"}[unit]
        assert abs(float(number.replace(",", "")) * factor - size) <= 0.005 * factor + size * 1e-12


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (13_000_000_000, "13 B"),
        (8_030_261_248, "8.03 B"),
        (175_181_291_520, "175 B"),
        (124_439_808, "124 M"),
        (1_500_000_000_000, "1.5 T"),
        (100_000_000_000, "100 B"),
        (1000, "1 k"),
        (999, "999"),
        (1, "1"),
    ],
)
def test_format_count(number, text):
    assert units.format_count(number) == text


@EXACT
@given(st.integers(1, 10**18))
def test_a_written_count_is_near_the_count_and_reads_back(number):
    written = units.format_count(number)
    again = units.parse_count(written)
    assert abs(again - number) <= 0.0051 * number
    assert "e" not in written
