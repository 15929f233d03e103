"""How a bench ends: a table of its figures, then one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping


def print_report(figures: Mapping[str, object], digits: int) -> None:
    """Print figures by name, rounded to so many digits, and the same as the last line."""
    report = {
        key: round(value, digits) if isinstance(value, float) else value for key, value in figures.items()
    }
    width = max(map(len, report), default=0)
    for key, value in report.items():
        print(f"{key:{width}}  {value}")
    print(json.dumps(report))
