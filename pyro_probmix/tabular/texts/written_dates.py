"""Dates, times of the day and durations as people write them."""

from __future__ import annotations

__all__ = ["ISO_DATE", "SEVERAL", "Moments", "moments_of"]

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = r"(?P<name>(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*)\.?"
_CLOCK = (
    r"(?:[T ,]+(?P<clock>\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(?: ?(?P<half>[ap])\.?m\.?)?)?(?P<zone>Z|[+-]\d{2}:?\d{2})?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[, ]+)?"
#: Formats by name. In "slashes" the values tell which of a and b is the day.
_FORMATS = {
    "iso": ISO_DATE,
    "1 Mar 2024": rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[ .-]+{_MONTH}[ ,-]+(?P<year>\d{{4}}|\d{{2}}){_CLOCK}",
    "Mar 1, 2024": rf"{_WEEKDAY}{_MONTH}[ -]+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?[ -]+(?P<year>\d{{4}}){_CLOCK}",
    "2024/03/01": rf"(?P<year>\d{{4}})[/.](?P<month>\d{{1,2}})[/.](?P<day>\d{{1,2}}){_CLOCK}",
    "2024-3-1": rf"(?P<year>\d{{4}})-(?P<month>\d{{1,2}})-(?P<day>\d{{1,2}}){_CLOCK}",
    "2024-03": r"(?P<year>[12]\d{3})[-/](?P<month>0[1-9]|1[0-2])",
    "Mar 2024": rf"{_MONTH}[ ,-]+(?P<year>\d{{4}})",
    "2024 Q1": r"(?P<year>[12]\d{3})[ -]?Q(?P<quarter>[1-4])",
    "2024-W05": r"(?P<year>[12]\d{3})-?W(?P<week>[0-5]\d)(?:-?(?P<weekday>[1-7]))?",
    "20240301T1200": r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})T"
    r"(?P<clock>\d{2}:?\d{2}(?::?\d{2})?)(?P<zone>Z|[+-]\d{2}:?\d{2})?",
    "slashes": rf"(?P<a>\d{{1,2}})[/.-](?P<b>\d{{1,2}})[/.-](?P<year>\d{{4}}|\d{{2}}){_CLOCK}",
}
_COMPILED = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _FORMATS.items()}
_TIME = re.compile(
    r"(?P<h>\d{1,2}):(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d(?:\.\d+)?))?(?: ?(?P<half>[ap])\.?m\.?)?", re.IGNORECASE
)
_DURATION = re.compile(
    r"(?P<minus>-?)(?:(?P<d>\d+) days?,? ?)?(?:(?P<h>\d+):(?P<m>[0-5]?\d)(?::(?P<s>[0-5]?\d(?:\.\d+)?))?)?",
    re.IGNORECASE,
)
#: The name of dates in more formats than one.
SEVERAL = "several"
#: Two digits of a year from this on are of the century before.
_CENTURY = 69


@dataclass(frozen=True)
class Moments:
    """The format of texts that are dates, times of the day or durations.

    Attributes:
        kind: "date", "time" or "duration".
        format: a name, for example "iso" or "1 Mar 2024".
        order: of dates with slashes, "dmy" or "mdy"; empty if the texts do not tell.
    """

    kind: str
    format: str
    order: str = ""

    def read(self, text: str) -> str | float | None:
        """A date as 2024-03-01 12:30:00, a time as a share of a day, a duration in days; None for another text."""
        text = text.strip()
        if self.kind == "date" and self.format == SEVERAL:
            return next((read for name in _FORMATS if (read := Moments("date", name, self.order).read(text))), None)
        if self.kind == "date":
            found = _COMPILED[self.format].fullmatch(text)
            return None if found is None else text if self.format == "iso" else _date(found, self.order)
        if self.kind == "time":
            found = _TIME.fullmatch(text)
            return None if found is None else _time(found)
        found = _DURATION.fullmatch(text)
        return None if found is None or not text else _duration(found)


def moments_of(texts: Sequence[str], order: str | None = None) -> tuple[Moments, float] | None:
    """The format that most of the texts have, and the share of them that have it; None if fewer than half have one.

    Args:
        texts: of a column; different ones are enough.
        order: of dates with slashes, if a user names it.

    Example:
        >>> moments_of(["31/12/2024", "3/4/2024"])
        (Moments(kind='date', format='slashes', order='dmy'), 1.0)
        >>> moments_of(["12:30", "23:59"])[0].kind, moments_of(["3/4/2024"])[0].order, moments_of(["x"])
        ('time', '', None)
    """
    stripped = [text.strip() for text in texts]
    for name, pattern in _COMPILED.items():
        matches = [found for found in map(pattern.fullmatch, stripped) if found]
        if 2 * len(matches) > len(stripped):
            told = (order or _order(matches)) if name == "slashes" else ""
            return Moments("date", name, told), len(matches) / len(stripped)
    if stripped and all(any(pattern.fullmatch(text) for pattern in _COMPILED.values()) for text in stripped):
        slashed = [found for found in map(_COMPILED["slashes"].fullmatch, stripped) if found]
        return Moments("date", SEVERAL, (order or _order(slashed)) if slashed else "iso"), 1.0
    times = sum(1 for found in map(_TIME.fullmatch, stripped) if found and _time(found) is not None)
    spans = sum(1 for text in stripped if ":" in text and _DURATION.fullmatch(text))
    if 2 * max(times, spans) > len(stripped):
        return (
            (Moments("time", "12:30"), times / len(stripped))
            if times == spans or 2 * times > spans + times
            else (
                Moments("duration", "2 days 03:04:05"),
                spans / len(stripped),
            )
        )
    return None


def _order(matches: Sequence[re.Match[str]]) -> str:
    first = any(int(found["a"]) > 12 for found in matches)
    second = any(int(found["b"]) > 12 for found in matches)
    return "" if first == second else "dmy" if first else "mdy"


def _date(found: re.Match[str], order: str) -> str | None:
    parts = found.groupdict()
    year = int(parts["year"])
    if parts.get("week"):
        try:
            return date.fromisocalendar(year, int(parts["week"]), int(parts["weekday"] or 1)).isoformat()
        except ValueError:
            return None
    if len(parts["year"]) == 2:
        year += 1900 if year >= _CENTURY else 2000
    if "a" in parts:
        day, month = (parts["a"], parts["b"]) if order == "dmy" else (parts["b"], parts["a"])
    else:
        day, month = parts.get("day") or "1", parts.get("month")
        if parts.get("name"):
            month = str(1 + _MONTHS.index(parts["name"][:3].lower()))
        if parts.get("quarter"):
            month = str(3 * int(parts["quarter"]) - 2)
    text = f"{year:04d}-{int(month or 1):02d}-{int(day):02d}"
    clock = parts.get("clock")
    if clock and ":" not in clock:
        clock = ":".join(re.findall("..", clock))
    if clock:
        hour, rest = clock.split(":", 1)
        if parts.get("half"):
            hour = str(int(hour) % 12 + (12 if parts["half"].lower() == "p" else 0))
        text += f" {int(hour):02d}:{rest}{parts.get('zone') or ''}"
    return text


def _time(found: re.Match[str]) -> float | None:
    hour = int(found["h"])
    if found["half"]:
        hour = hour % 12 + (12 if found["half"].lower() == "p" else 0)
    if hour > 23:
        return None
    return (3600 * hour + 60 * int(found["m"]) + float(found["s"] or 0)) / 86_400


def _duration(found: re.Match[str]) -> float:
    seconds = 3600 * int(found["h"] or 0) + 60 * int(found["m"] or 0) + float(found["s"] or 0)
    return (-1.0 if found["minus"] else 1.0) * (int(found["d"] or 0) + seconds / 86_400)
