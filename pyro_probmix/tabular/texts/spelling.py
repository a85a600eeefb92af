"""What the texts of a column mean: numbers, dates, times, or categories; and when a user has to decide."""

from __future__ import annotations

__all__ = ["Spelled", "spelled_texts", "where"]

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix.names import shown
from pyro_probmix.tabular.texts.conventions import Conventions, gap_rows
from pyro_probmix.tabular.texts.decisions import Decision
from pyro_probmix.tabular.texts.written_dates import SEVERAL, Moments, moments_of
from pyro_probmix.tabular.texts.written_numbers import ORDINALS, THOUSANDS, is_bound, number_of, spelling_of_numbers

#: Numbers with so many different units behind them, or more, are texts such as addresses.
MANY_UNITS = 4
#: Marks for a missing value that nobody asks about.
_USUAL_GAPS = ("", "NA", "N/A", "NaN", "NULL", "None")


@dataclass(frozen=True)
class Spelled:
    """What texts mean.

    Attributes:
        fields: of a column, see :class:`~pyro_probmix.tabular.column.Column`.
        notes: on it, in words.
    """

    fields: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def spelled_texts(values: pd.Series, said: Conventions) -> Spelled:
    """What the texts of a column mean.

    Args:
        values: texts, None where one is missing.
        said: by the user.

    Raises:
        Decision: if a user has to decide.

    Example:
        >>> spelled_texts(pd.Series(["$3.14", "$2.72"]), Conventions()).fields["kind"]
        'number'
        >>> spelled_texts(pd.Series(["1/2/2024", "3/4/2024"]), Conventions(dates="mdy")).fields["order"]
        'mdy'
    """
    name = str(values.name)
    gaps = gap_rows(values) & values.notna().to_numpy()
    present = values[values.notna().to_numpy() & ~gaps]
    if not len(present):
        return Spelled({"kind": "number"})
    texts = [str(value) for value in present]
    moments = moments_of(texts, said.dates)
    if moments is not None:
        return _of_moments(name, values, *moments, gaps)
    numbers = np.array([number_of(text) is not None for text in texts])
    codes_with_zeros = any(re.fullmatch(r"\s*[-+]?0\d+\s*", text) for text in texts)
    if numbers.all() and codes_with_zeros:
        return Spelled(
            {"kind": "category"}, (f"column {shown(name)} holds codes with zeros in front, which are texts.",)
        )
    bounds = np.array([is_bound(text) for text in texts])
    if (numbers | bounds).all() and bounds.any() and (numbers.any() or len(set(texts)) > len(texts) / 2):
        row = _row(values, texts[int(np.argmax(bounds))])
        raise Decision(
            name,
            f"holds {shown(values.iloc[row])} at row {row} (rows counted from 0), a bound and no number",
            f"a number in its place, --category {shown(name)}, or --leave-out {shown(name)}",
        )
    if numbers.all():
        return _of_numbers(name, values, texts, said, gaps)
    if 2 * numbers.sum() > len(texts) and not codes_with_zeros:
        row = _row(values, texts[int(np.argmin(numbers))])
        footer = "leaving out that row if it is a footer, " if row == len(values) - 1 else ""
        raise Decision(
            name,
            f"holds {shown(values.iloc[row])} at row {row} (rows counted from 0), expected a number, as in most rows",
            f"{footer}correcting it, --missing {shown(values.iloc[row])} if it stands for none, or --category {shown(name)}",
        )
    return Spelled({"kind": "category"}, (*_of_cases(name, texts), *_of_marks(name, values, gaps)))


def _of_marks(name: str, values: pd.Series, gaps: np.ndarray) -> tuple[str, ...]:
    marks = sorted({str(v) for v in values[gaps]} - {""})
    if not marks:
        return ()
    what = f"column {shown(name)} holds {shown(marks[0])} among texts, a category of its own"
    return (f"{what}; --missing {marks[0]} makes it a gap.",)


def _of_cases(name: str, texts: list[str]) -> tuple[str, ...]:
    """What to say of categories that differ by capital letters and spaces alone."""
    alike: dict[str, set[str]] = {}
    for text in dict.fromkeys(texts):
        alike.setdefault(" ".join(text.casefold().split()), set()).add(text.strip())
    several = [sorted(spellings) for spellings in alike.values() if len(spellings) > 1]
    if not several or len(several) * 5 < len(alike):  # a few of many may be meant
        return ()
    both = " and ".join(shown(text) for text in several[0][:2])
    return (f"column {shown(name)} holds {both}, which are categories of their own.",)


def _of_moments(name: str, values: pd.Series, moments: Any, share: float, gaps: np.ndarray) -> Spelled:
    if share < 1:
        row = next(
            k
            for k, value in enumerate(values)
            if isinstance(value, str) and not gaps[k] and moments.read(value) is None
        )
        what = {"date": "no date", "time": "no time of the day", "duration": "no duration"}[moments.kind]
        raise Decision(
            name,
            f"holds {shown(values.iloc[row])} at row {row} (rows counted from 0), which is {what}, unlike most rows",
            f"correcting it, --missing {shown(values.iloc[row])} if it stands for none, or --category {shown(name)}",
        )
    if moments.format in ("slashes", SEVERAL) and not moments.order:
        row = next(
            k
            for k, value in enumerate(values)
            if isinstance(value, str) and not gaps[k] and Moments("date", "slashes", "dmy").read(value) is not None
        )
        raise Decision(
            name,
            f"holds {shown(values.iloc[row])} at row {row} (rows counted from 0), of which the values do not tell whether the "
            "day or the month comes first",
            "--dates dmy, or --dates mdy",
        )
    first = next(value for k, value in enumerate(values) if isinstance(value, str) and not gaps[k])
    order = {"dmy": ", the day first", "mdy": ", the month first"}.get(moments.order, "")
    notes = []
    if moments.format != "iso":
        several = " in several formats" if moments.format == SEVERAL else ""
        notes.append(f"column {shown(name)} is read as {moments.kind}s{several} such as {shown(first)}{order}.")
    fields = {"kind": moments.kind, "format": moments.format, "order": moments.order}
    return Spelled(fields, (*notes, *_of_gaps(name, values, gaps)))


def _of_numbers(name: str, values: pd.Series, texts: list[str], said: Conventions, gaps: np.ndarray) -> Spelled:
    spelling = spelling_of_numbers(texts, said.decimal)
    if len(spelling.units) >= MANY_UNITS and not spelling.times:
        return Spelled({"kind": "category"})
    if len(spelling.units) > 1 and not spelling.times:
        row = _row(values, next(text for text in texts if spelling.units[1] in text))
        raise Decision(
            name,
            f"holds numbers with the units {shown(spelling.units[0])} and {shown(spelling.units[1])}, as at row {row} (rows "
            "counted from 0)",
            f"one unit, --category {shown(name)}, or --leave-out {shown(name)}",
        )
    told = list(spelling.notes)
    bare = [text for text in texts if spelling.units and spelling.units[0] not in text]
    if bare and not spelling.times and not set(spelling.units) <= ORDINALS:
        told.append(f"{len(bare)} of {len(texts)} have no unit, as {shown(bare[0])}")
    decimal = spelling.decimal
    if decimal is None:
        decimal, more = _by_other_columns(name, values, texts, said.likely_decimal)
        told += more
    notes = (f"column {shown(name)} is read as numbers: {', '.join(told)}.",) if told else ()
    unit = spelling.units[0] if spelling.units and not spelling.times else ""
    with_commas = decimal == "." and any("," in text for text in texts)
    fields = {"kind": "number", "decimal": decimal, "times": spelling.times, "unit": unit}
    fields |= {"format": THOUSANDS} if with_commas else {}
    return Spelled(fields, (*notes, *_of_gaps(name, values, gaps)))


def _by_other_columns(
    name: str, values: pd.Series, texts: list[str], likely: str | None
) -> tuple[str, tuple[str, ...]]:
    """The decimal sign of numbers that do not tell it, by that of other columns, and what to say of it."""
    commas, points = ([text for text in texts if sign in text] for sign in ",.")
    if not commas and not points:
        return ".", ()
    row = _row(values, (commas or points)[0])
    if likely is None and commas:
        raise Decision(
            name,
            f"holds {shown(values.iloc[row])} at row {row} (rows counted from 0), of which the values do not tell whether the "
            "sign is a decimal one or sets thousands apart",
            "--decimal ',' or --decimal '.'",
        )
    if likely is None:  # what NumPy and pandas make of them, too
        what = f"the point of {shown(values.iloc[row])} is taken for a decimal one"
        return ".", (f"{what}; --decimal , takes it for one between thousands",)
    what, apart = ("comma", "point")[not commas], (likely == ".") == bool(commas)
    as_others = f"as other columns have decimal {'points' if likely == '.' else 'commas'}"
    if not apart:
        return likely, (f"decimal commas, {as_others}",) if commas else ()
    return likely, (f"the {what} of {shown(values.iloc[row])} sets thousands apart, {as_others}",)


def _of_gaps(name: str, values: pd.Series, gaps: np.ndarray) -> tuple[str, ...]:
    odd = sorted({str(v) for v in values[gaps]} - set(_USUAL_GAPS))
    if not odd:
        return ()
    return (f"column {shown(name)} holds {shown(odd[0])} where a value is missing, in {int(gaps.sum())} rows.",)


def _row(values: pd.Series, text: str) -> int:
    """The first row that holds a text."""
    return next(k for k, value in enumerate(values) if str(value) == text)


def where(name: str, values: pd.Series, row: int) -> str:
    """The beginning of a message on one value of a column."""
    value: Any = values.iloc[row]
    return f"column {shown(name)} holds {shown(str(value))} at row {row} (rows counted from 0)"
