"""Hours a week that two cron expressions keep the endpoint on."""

from __future__ import annotations

import pytest

from client.schedules import hours_up, weekly_minutes


@pytest.mark.parametrize(
    ("up", "down", "hours"),
    [
        ("cron(0 7 ? * MON-FRI *)", "cron(0 19 ? * MON-FRI *)", 60),
        ("cron(0 7 ? * 2-6 *)", "cron(30 19 ? * 2-6 *)", 62.5),
        ("cron(0 7 * * ? *)", "cron(0 19 * * ? *)", 84),
        # On from Monday morning to Friday evening, though it is told to go on every day.
        ("cron(0 7 ? * MON-FRI *)", "cron(0 19 ? * FRI *)", 108),
        ("cron(0 22 ? * SAT *)", "cron(0 2 ? * SUN *)", 4),
        ("cron(0 8 ? * FRI-MON *)", "cron(0 9 ? * * *)", 4),
        ("cron(0 0/6 ? * MON *)", "cron(0 3/6 ? * MON *)", 12),
        ("cron(0 8,13 ? * MON,WED *)", "cron(0 12,18 ? * MON,WED *)", 18),
        ("cron(0 7 ? * mon *)", "cron(0 8 ? * mon *)", 1),
    ],
)
def test_hours(up: str, down: str, hours: float) -> None:
    assert hours_up(up, down) == hours


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (None, None),
        (None, "cron(0 19 ? * MON-FRI *)"),
        ("rate(1 day)", "cron(0 19 ? * MON-FRI *)"),
        ("at(2026-11-22T08:00:00)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 7 1 * ? *)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 7 ? * 2#1 *)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 7 ? * FRIL *)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 25 ? * MON *)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 7 ? * MON 2027)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 7 ? 1 MON *)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 7 ? * MON)", "cron(0 19 ? * MON-FRI *)"),
        ("cron(0 0/0 ? * MON *)", "cron(0 19 ? * MON-FRI *)"),
    ],
)
def test_what_is_not_weekly_is_not_counted(up: str | None, down: str | None) -> None:
    assert hours_up(up, down) is None


def test_minutes_since_sunday() -> None:
    assert weekly_minutes("cron(5 1 ? * SUN,MON *)") == frozenset({65, 1505})
