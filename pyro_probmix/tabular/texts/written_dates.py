"""Dates, times of the day and durations as people write them."""

from __future__ import annotations

__all__ = ["ISO_DATE", "SEVERAL", "Moments", "moments_of"]

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|UTC|GMT|[+-]\d{2}:?\d{2}))?)?"
#: How the names of months begin: in English, German, French, Spanish, Portuguese, Italian and Dutch.
_MONTHS = (
    "jan|ene|gen", "feb|f[ée]v", "mar|m[äa]e?rz|mrt|mrz|maa", "apr|avr|abr", "may|mai|mei|mag", "jun|juin|giu",
    "jul|juil|lug", "aug|ao[ûu]|ago", "sep|set", "oct|okt|ott|out", "nov", "d[eé]c|dez|dic",
)  # fmt: skip
_MONTH = rf"(?P<name>(?:{'|'.join(_MONTHS)})[^\W\d_]*)\.?"
_OF = r"(?:[ .,-]+|\.? de )"
_CLOCK = (
    r"(?:[T ,]+(?P<clock>\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(?: ?(?P<half>[ap])\.?m\.?)?)?"
    r"(?: ?(?P<zone>Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*[, ]+)?"
#: Formats by name. In "slashes" the values tell which of a and b is the day.
_FORMATS = {
    "iso": ISO_DATE,
    "1 Mar 2024": rf"{_WEEKDAY}(?P<day>\d{{1,2}})(?:st|nd|rd|th|er)?{_OF}{_MONTH}{_OF}(?P<year>\d{{4}}|\d{{2}}){_CLOCK}",
    "Mar 1, 2024": rf"{_WEEKDAY}{_MONTH}[ -]+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?[ -]+(?P<year>\d{{4}}){_CLOCK}",
    "2024/03/01": rf"(?P<year>\d{{4}})[/.](?P<month>\d{{1,2}})[/.](?P<day>\d{{1,2}}){_CLOCK}",
    "2024-3-1": rf"(?P<year>\d{{4}})-(?P<month>\d{{1,2}})-(?P<day>\d{{1,2}}){_CLOCK}",
    "2024-03": r"(?P<year>[12]\d{3})[-/](?P<month>0[1-9]|1[0-2])",
    "Mar 2024": rf"{_MONTH}{_OF}(?P<year>\d{{4}})",
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
#: 2 days 03:04:05; 4:05.7, of minutes; P2DT3H4M; 3h 4m 5s.
_DURATIONS = tuple(
    re.compile(rf"(?P<minus>-?){pattern}")
    for pattern in (
        r"(?:(?P<d>\d+) [Dd]ays?(?P<own>, ?| ?[-+]| ?))?(?:(?P<h>\d+):(?P<m>[0-5]?\d)(?::(?P<s>[0-5]?\d(?:\.\d+)?))?)?",
        r"(?P<m>\d+):(?P<s>[0-5]?\d\.\d+)",
        r"P(?=[\dT])(?:(?P<d>\d+)D)?(?:T(?=\d)(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?",
        r"(?:(?P<d>\d+) ?(?:d|[Dd]ays?),?)? ?(?:(?P<h>\d+) ?(?:h|[Hh]ours?|[Hh]rs?))? ?"  # 12H is a seat
        r"(?:(?P<m>\d+) ?(?:m|[Mm]in(?:ute)?s?))? ?(?:(?P<s>\d+(?:\.\d+)?) ?(?:s|[Ss]ec(?:ond)?s?))?",
    )
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
            return None if found is None else _with_zone(text) if self.format == "iso" else _date(found, self.order)
        if self.kind == "time":
            found = _TIME.fullmatch(text)
            return None if found is None else _time(found)
        found = next((found for form in _DURATIONS if text and (found := form.fullmatch(text))), None)
        return None if found is None else _duration(found)


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
    lengths = [found for text in stripped if (found := _length(text)) is not None]
    # 12 h alone is a number with a unit; 1 day and 2 days, or 5 min and 1 h, are durations.
    units = {re.sub(r"[\d.\s-]", "", text).casefold() for text, _ in lengths}
    several = len(units) > 1 or any(":" in text or text[:1] == "P" or fields > 1 for text, fields in lengths)
    spans = len(lengths) if several else 0
    if 2 * max(times, spans) <= len(stripped):
        return None
    if times == spans or 2 * times > spans + times:
        return Moments("time", "12:30"), times / len(stripped)
    return Moments("duration", "2 days 03:04:05"), spans / len(stripped)


def _length(text: str) -> tuple[str, int] | None:
    """A text that is a duration, and the number of its units; None for another one."""
    for form in _DURATIONS:
        found = form.fullmatch(text) if text else None
        if found is not None:
            return text, sum(found[name] is not None for name in "dhms" if name in found.groupdict())
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
            month = str(next(k for k, names in enumerate(_MONTHS, 1) if re.match(names, parts["name"], re.IGNORECASE)))
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
        text = _with_zone(f"{text} {int(hour):02d}:{rest}{parts.get('zone') or ''}")
    return text


def _time(found: re.Match[str]) -> float | None:
    hour = int(found["h"])
    if found["half"]:
        hour = hour % 12 + (12 if found["half"].lower() == "p" else 0)
    if hour > 23:
        return None
    return (3600 * hour + 60 * int(found["m"]) + float(found["s"] or 0)) / 86_400


def _duration(found: re.Match[str]) -> float:
    parts: dict[str, str | None] = {"d": None, "h": None, **found.groupdict()}
    days, hours, minutes, seconds = (float(parts[name] or 0) for name in "dhms")
    sign, clock = (-1.0 if found["minus"] else 1.0), (3600 * hours + 60 * minutes + seconds) / 86_400
    own = (parts.get("own") or "").strip()
    if days and own:  # Python and pandas write an hour less than nothing as -1 day, 23:00:00 and -1 days +23:00:00
        return sign * days + (-clock if own == "-" else clock)
    return sign * (days + clock)


def _with_zone(text: str) -> str:
    """A date with its zone as ISO 8601 writes it."""
    return re.sub(r" ?(?:Z|UTC|GMT)$", "Z", re.sub(r" ([+-]\d{2}:?\d{2})$", r"\1", text), flags=re.IGNORECASE)
