"""How many hours a week a schedule keeps the endpoint on, from the cron expressions of EventBridge Scheduler.

Counted are expressions that repeat every week: minutes, hours and days of the week, with lists, ranges
and steps. Others (days of a month, `L`, `#`, rate, at) are not counted: None, and the caller says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HOUR = 60
DAY = 24 * HOUR
WEEK = 7 * DAY

_CRON = re.compile(r"cron\((.+)\)")
_DAYS = {
    name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), start=1)
}
_ANY = ("*", "?")


def hours_up(up: str | None, down: str | None) -> float | None:
    """Return the hours of a week between going on and going off, None where they cannot be counted."""
    if up is None or down is None:
        return None
    on, off = weekly_minutes(up), weekly_minutes(down)
    if not on or not off:
        return None
    # Going off wins where both fall on one minute: that is what the pair would cost at least.
    changes = sorted({**dict.fromkeys(on, True), **dict.fromkeys(off, False)}.items())
    minutes = 0
    for (start, is_on), (end, _) in zip(changes, [*changes[1:], (changes[0][0] + WEEK, False)], strict=True):
        minutes += end - start if is_on else 0
    return minutes / HOUR


def weekly_minutes(expression: str) -> frozenset[int] | None:
    """Return when an expression fires, in minutes since Sunday 00:00, None where it is not weekly."""
    matched = _CRON.fullmatch(expression.strip())
    fields = matched[1].upper().split() if matched else []
    if len(fields) != 6:
        return None
    minute, hour, day_of_month, month, day_of_week, year = fields
    if day_of_month not in _ANY or month != "*" or year != "*":
        return None
    try:
        minutes = _values(minute, 0, 59)
        hours = _values(hour, 0, 23)
        days = _values(day_of_week, 1, 7, _DAYS)
    except ValueError:
        return None
    return frozenset((day - 1) * DAY + at * HOUR + past for day in days for at in hours for past in minutes)


def _values(field: str, least: int, most: int, names: Mapping[str, int] | None = None) -> set[int]:
    """Return the values of one field.

    Raises:
        ValueError: it holds what is not counted here, or a value out of range.
    """
    values: set[int] = set()
    for part in field.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if first in _ANY:
            start, end = least, most
        else:
            start = _number(first, names)
            end = _number(last, names) if dash else (most if slash else start)
        every = int(step) if slash else 1
        if not (least <= start <= most and least <= end <= most) or every < 1:
            raise ValueError(field)
        if start <= end:
            values.update(range(start, end + 1, every))
        else:  # FRI-MON goes round the end of the week
            values.update(range(start, most + 1, every), range(least, end + 1, every))
    return values


def _number(text: str, names: Mapping[str, int] | None) -> int:
    return names[text] if names and text in names else int(text)
