"""Prices: what the user states, else what the catalog has seen, with date and source."""

from __future__ import annotations

from typing import Any

from llmcalc.answer.numbers import real
from llmcalc.catalog import Catalog
from llmcalc.errors import InputError, did_you_mean
from llmcalc.units import shown

CURRENCIES = (
    "USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK",
    "HUF", "RON", "UAH", "TRY", "ILS", "AED", "SAR", "BRL", "MXN", "ARS", "CLP", "COP", "KRW", "TWD", "HKD",
    "SGD", "THB", "MYR", "IDR", "VND", "PHP", "PKR", "BDT", "ZAR", "NGN", "KES", "EGP", "RUB",
)  # fmt: skip
SIGNS = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₹": "INR"}


class Price:
    """What a GPU-hour costs.

    Attributes
    ----------
    value, low, high : float
        In `currency`. [money/h]
    currency : str
        Its code.
    grade, note, source : str
        ``exact`` where the user states it, else ``assumed``.
    """

    __slots__ = ("currency", "grade", "high", "low", "note", "source", "value")

    def __init__(
        self, value: float, low: float, high: float, currency: str, grade: str, note: str, source: str
    ) -> None:
        self.value, self.low, self.high, self.currency = value, low, high, currency
        self.grade, self.note, self.source = grade, note, source


def currency_of(text: Any) -> str:
    """A currency's code.

    Examples
    --------
    >>> currency_of("eur"), currency_of("$")
    ('EUR', 'USD')
    """
    word = str(text).strip()
    code = SIGNS.get(word, word.upper())
    if code in CURRENCIES:
        return code
    near = did_you_mean(code, CURRENCIES, 2)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise InputError(
        f"--currency {shown(word)} is not known.",
        f"{hint}Use a three-letter code such as USD, EUR, GBP or JPY.",
    )


def find_price(given: dict[str, Any], gpu: Any, book: Catalog) -> Price | None:
    """The price of a GPU-hour: stated, else of the catalog; None where neither is there.

    Raises
    ------
    InputError
        For a price that is none, an unknown currency, or one that needs an exchange rate.
    """
    stated, wanted = given["price"], given["currency"]
    code = "USD"
    if isinstance(stated, str):
        stated, found = _split(stated)
        code = found or code
        if found and wanted is not None and currency_of(wanted) != found:
            raise InputError(
                f"--price is in {found}, --currency says {wanted}.", "Give one of them, or the price alone."
            )
    wanted = code if wanted is None else currency_of(wanted)
    rate = None if given["exchange"] is None else real(given["exchange"], "--exchange", "0.92")
    if rate is not None and (stated is not None or wanted == "USD"):
        raise InputError(
            "--exchange turns the catalog's dollars into another currency.",
            "Add --currency CODE without --price, or leave --exchange out.",
        )
    if stated is not None:
        value = real(stated, "--price", "2.5 or 2.5EUR", most=1e9)
        return Price(value, value, value, wanted, "exact", "stated", "--price")
    if gpu is None:
        return None
    found_ = _of_catalog(gpu.name, book)
    if found_ is None or wanted == "USD":
        return found_
    if rate is None:
        raise InputError(
            f"The catalog's prices are in USD; what a dollar is in {wanted} is not known.",
            f"Add --exchange RATE ({wanted} for a dollar), or --price in {wanted}.",
        )
    found_.value, found_.low, found_.high = (x * rate for x in (found_.value, found_.low, found_.high))
    found_.currency, found_.note = wanted, f"{found_.note}; {rate:g} {wanted} for a dollar"
    return found_


def _split(text: str) -> tuple[str, str]:
    """``2.5EUR`` or ``$2`` into number and currency."""
    bare = text.strip()
    for sign, code in SIGNS.items():
        if bare.startswith(sign) or bare.endswith(sign):
            return bare.strip(sign).strip(), code
    letters = bare[len(bare.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")) :]
    if len(letters) >= 2:
        return bare[: len(bare) - len(letters)].strip(), currency_of(letters)
    return bare, ""


def _of_catalog(name: str, book: Catalog) -> Price | None:
    """The median of what sellers ask on demand and of the market; all offers are the range."""
    entry = book.lookup("prices", name)
    if entry is None:
        return None
    offers = entry["offers"]
    firm = [one for one in offers if one["kind"] in ("on-demand", "market")] or offers
    sellers: dict[str, dict[str, Any]] = {}
    for one in firm:  # several sizes of one seller are one offer
        sellers.setdefault(one["from"].split(" ")[0] if one["kind"] != "market" else one["source"], one)
    middle = sorted(sum(one["usd"]) / len(one["usd"]) for one in sellers.values())
    value = (middle[(len(middle) - 1) // 2] + middle[len(middle) // 2]) / 2
    every = [dollars for one in offers for dollars in one["usd"]]
    years = sorted(year for one in sellers.values() for year in _years(one["date"]))
    when = years[0] if years[0] == years[-1] else f"{years[0]} to {years[-1]}"
    many = f"median of {len(middle)} offers" if len(middle) > 1 else firm[0]["from"]
    sources = "; ".join(f"{one['from']}: {one['source']} ({one['date']})" for one in sellers.values())
    note = f"{many}, {when}; prices go stale: --price"
    return Price(value, min(every), max(every), "USD", "assumed", note, sources)


def _years(text: str) -> list[str]:
    """The years that a date names."""
    return [
        text[n : n + 4] for n in range(len(text) - 3) if text[n : n + 2] == "20" and text[n : n + 4].isdigit()
    ]
