"""Numbers as people write them: thousands set apart, decimal commas, currencies, units, brackets for losses."""

from __future__ import annotations

__all__ = [
    "ORDINALS",
    "THOUSANDS",
    "Number",
    "Spelling",
    "decimal_sign",
    "is_bound",
    "number_of",
    "spelling_of_numbers",
]

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

#: Spaces, apostrophes and signs of minus that typesetters use, and what stands for them.
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u00a0\u202f\u2009\u2007\u2008", " "),
        **dict.fromkeys("’‘´`ʼ", "'"),
        **dict.fromkeys("−–‐‑﹣－", "-"),
    }
)
_CURRENCIES = (
    r"US\$|C\$|A\$|R\$|HK\$|NZ\$|[$€£¥₹₩₽₺฿₫₪]|(?:USD|EUR|GBP|CHF|CAD|AUD|NZD|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|RON|BRL|MXN|"
    r"ZAR|KRW|TRY|RUB|SGD|HKD|THB|ILS)(?![A-Za-z])"
)
_DIGITS = (
    r"\d{1,2}(?:,\d{2})+,\d{3}|"  # lakhs
    r"\d{1,3}(?:[ ']\d{3})+|\d{1,3}(?:,\d{3})+(?=\.)|\d{1,3}(?:\.\d{3})+(?=,)|\d{1,3}(?:[,.]\d{3}){2,}|\d+|(?=[.,]\d)"
)
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?) ?(?P<before>{_CURRENCIES})? ?(?P<sign2>[-+]?)(?P<whole>{_DIGITS})(?P<part>[.,]\d*)?"
    r"(?:(?<=[.,])-{1,2}|(?<=[.,]\d)(?P<behind>-)|(?<=[.,]\d\d)(?P<behind2>-))?"  # 12.- has no cents, 12.50- is negative
    rf"(?P<power>[eE][-+]?\d+)? ?(?P<unit>{_CURRENCIES}|[A-Za-zµμ°%‰Ωº\"'][\w/²³°%·^. -]{{0,15}})?"
)
_BOUND = re.compile(r"(?:[<>≤≥~]|<=|>=) ?.*\d.*")
#: Currencies of countries where commas set thousands apart.
_WITH_COMMAS = {
    "$",
    "US$",
    "C$",
    "A$",
    "HK$",
    "NZ$",
    "£",
    "¥",
    "₹",
    "USD",
    "GBP",
    "CAD",
    "AUD",
    "NZD",
    "JPY",
    "INR",
    "HKD",
    "SGD",
}
#: What a letter behind a number multiplies it by.
_TIMES = {"k": 1e3, "K": 1e3, "M": 1e6, "mn": 1e6, "B": 1e9, "bn": 1e9}
ORDINALS = {"st", "nd", "rd", "th"}
#: The format of numbers with commas between thousands.
THOUSANDS = "1,234"


@dataclass(frozen=True)
class Number:
    """A text read as a number.

    Attributes:
        whole, part: digits before and behind the first comma or point that may be a decimal one, with that sign.
        negative: whether it is below zero.
        power: a factor.
        unit: a currency, a unit or a multiplier; empty for none.
    """

    whole: str
    part: str
    negative: bool
    power: float
    unit: str

    def value(self, decimal: str, times: bool) -> float | None:
        """The number by a decimal sign; None if that stands between thousands, or the other one does not.

        ``times`` says whether units are multipliers.
        """
        if decimal in self.whole or (self.part and self.part[0] != decimal and len(self.part) != 4):
            return None
        digits = re.sub(r"[ ',.]", "", self.whole) or "0"
        behind = self.part[1:]
        thousands = bool(self.part) and self.part[0] != decimal
        text = digits + behind if thousands else f"{digits}.{behind or 0}"
        sign = -1.0 if self.negative else 1.0
        return sign * float(text) * self.power * (_TIMES[self.unit] if times and self.unit else 1.0)


def number_of(text: str) -> Number | None:
    """A text as a number with its unit; None for any other text.

    Example:
        >>> number_of("(1\u202f234,50 €)").value(",", False), number_of("\u22120.5 kg").unit, number_of("about 5")
        (-1234.5, 'kg', None)
    """
    text = text.translate(_PLAIN).strip()
    brackets = text.startswith("(") and text.endswith(")")
    found = _NUMBER.fullmatch(text[1:-1].strip() if brackets else text)
    signs = [found[name] for name in ("sign", "sign2", "behind", "behind2") if found[name]] if found is not None else []
    if found is None or len(signs) > 1 or not (found["whole"] or found["part"]):
        return None
    if found["before"] and found["unit"] and found["unit"].strip() not in _TIMES:
        return None
    unit = (found["unit"] or "").strip() or (found["before"] or "")
    negative = brackets or "-" in signs
    return Number(found["whole"], found["part"] or "", negative, float(f"1{found['power'] or 'e0'}"), unit)


def is_bound(text: str) -> bool:
    """Whether a text is a bound of a number, as <0.05 is.

    Example:
        >>> is_bound("<0.05"), is_bound("5")
        (True, False)
    """
    return _BOUND.fullmatch(text.translate(_PLAIN).strip()) is not None


@dataclass(frozen=True)
class Spelling:
    """How the numbers of a column are written.

    Attributes:
        decimal: the decimal sign; None if the texts have none, or do not tell it from one between thousands.
        times: whether letters behind the numbers multiply them.
        units: the units, the most frequent first; one for texts of which all are of one unit or none.
        notes: what a reader may want to know, in words.
    """

    decimal: str | None
    times: bool
    units: tuple[str, ...]
    notes: tuple[str, ...]


def spelling_of_numbers(texts: Sequence[str], decimal: str | None = None) -> Spelling:
    """The spelling of texts that are all numbers.

    Args:
        texts: different ones are enough.
        decimal: the sign that a user names.

    Example:
        >>> spelling_of_numbers(["3,14", "1.234,5"]).decimal, spelling_of_numbers(["1,234"]).decimal
        (',', None)
    """
    numbers = [number for number in map(number_of, texts) if number is not None]
    units = Counter(number.unit for number in numbers if number.unit)
    times = bool(units) and set(units) <= set(_TIMES)
    if set(units) <= ORDINALS:
        units = Counter()
    notes = []
    if times:
        notes.append("letters as k for thousands multiply")
    elif units:
        notes.append(f"the unit {next(iter(units))!r} is left out")
    if any(text.strip().startswith("(") for text in texts):
        notes.append("brackets are minus signs")
    if any(re.search(r"[.,]\d{1,2}-$", text.strip()) for text in texts):
        notes.append("the minus sign stands behind the number")
    found = decimal or decimal_sign(numbers)
    if found is None and set(units) and set(units) <= _WITH_COMMAS and not any(n.part.startswith(".") for n in numbers):
        found = "."
    if found == ",":
        notes.append("decimal commas")
    if any(" " in n.whole or "'" in n.whole for n in numbers):
        notes.append("thousands set apart")
    return Spelling(found, times, tuple(unit for unit, _ in units.most_common()), tuple(notes))


def decimal_sign(numbers: Sequence[Number]) -> str | None:
    """The decimal sign that numbers tell; None if none does."""
    signs, thousands, open_ = set(), set(), set()
    for number in numbers:
        between = set(re.findall(r"[.,]", number.whole))
        thousands |= between
        if not number.part:
            continue
        sign = number.part[0]
        if len(number.part) == 4 and 1 <= len(number.whole) <= 3 and not between and number.whole != "0":
            open_.add(sign)
        elif sign in between:
            thousands.add(sign)
        else:
            signs.add(sign)
    if len(signs) == 1 and not signs & thousands:
        return signs.pop()
    if not signs and thousands:
        return "," if thousands == {"."} else "."
    return None
