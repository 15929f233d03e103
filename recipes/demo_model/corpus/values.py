"""Values that stand in sentences: money, shares, counts, dates, measures, in many styles.

`fill(rng, type)` returns the text of one value. Types without a function here are phrases of
`phrases.txt`. Values are drawn without regard to what is plausible.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from functools import cache

from recipes.demo_model.corpus import words
from recipes.demo_model.corpus.template import Template, capitalise, read_lines

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_SMALL = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fifteen",
    "eighteen",
    "twenty",
    "thirty",
    "forty",
]
_SIGNS = ("$", "$", "€", "€", "£", "¥", "US$", "A$", "C$", "₹", "₩", "R$", "HK$", "₺", "zł ")
_CODES = ("EUR ", "USD ", "CHF ", "SEK ", "NOK ", "DKK ", "GBP ", "JPY ", "INR ", "PLN ", "CNY ", "BRL ")
_NAMES = (
    "dollars",
    "euros",
    "kronor",
    "francs",
    "pounds",
    "yen",
    "rupees",
    "pesos",
    "crowns",
    "reais",
    "roubles",
    "zloty",
)


def magnitude(rng: random.Random) -> str:
    """A magnitude as reports print it: `3.4`, `412`, `1,204.5`."""
    form = rng.random()
    if form < 0.45:
        return f"{rng.uniform(1, 99):.1f}"
    if form < 0.55:
        return f"{rng.uniform(1, 20):.2f}"
    if form < 0.85:
        return str(rng.randint(2, 999))
    if form < 0.95:
        return f"{rng.randint(1000, 99999):,}"
    return f"{rng.uniform(1000, 9999):,.1f}"


def money(rng: random.Random) -> str:
    """A large sum with its currency."""
    form = rng.random()
    scale = rng.choice(("million", "million", "billion"))
    if form < 0.5:
        return f"{rng.choice(_SIGNS)}{magnitude(rng)} {scale}"
    if form < 0.66:
        short = rng.choice(("m", "bn", "M", "B", "k", "mn"))
        return f"{rng.choice(_SIGNS)}{magnitude(rng)}{short}"
    if form < 0.82:
        return f"{rng.choice(_CODES)}{magnitude(rng)} {scale}"
    if form < 0.94:
        return f"{magnitude(rng)} {scale} {rng.choice(_NAMES)}"
    return f"{rng.choice(_SIGNS)}{rng.randint(10_000, 9_999_999):,}"


def small_money(rng: random.Random) -> str:
    """A price a person pays."""
    amount = f"{rng.uniform(0.5, 400):.2f}" if rng.random() < 0.4 else f"{rng.randint(2, 2500):,}"
    form = rng.random()
    if form < 0.55:
        return f"{rng.choice(_SIGNS)}{amount}"
    return f"{rng.choice(_CODES)}{amount}" if form < 0.7 else f"{amount} {rng.choice(_NAMES)}"


def per_share(rng: random.Random) -> str:
    """An amount for one share."""
    amount = f"{rng.uniform(0.05, 30):.2f}"
    form = rng.random()
    if form < 0.55:
        return f"{rng.choice(_SIGNS)}{amount}"
    if form < 0.8:
        return f"{rng.choice(_CODES)}{amount}"
    return f"{rng.randint(2, 95)} {rng.choice(('cents', 'pence', 'øre', 'cents'))}"


def percent(rng: random.Random) -> str:
    """A share of a hundred."""
    amount = f"{rng.uniform(0.1, 60):.1f}" if rng.random() < 0.6 else str(rng.randint(1, 98))
    form = rng.random()
    if form < 0.62:
        return f"{amount}%"
    if form < 0.7:
        return f"{amount} %"
    if form < 0.92:
        return f"{amount} {rng.choice(('per cent', 'percent'))}"
    return rng.choice(
        ("a third", "a quarter", "half", "two thirds", "three quarters", "a fifth", "nearly half")
    )


def count(rng: random.Random) -> str:
    """How many of something, many or few."""
    form = rng.random()
    if form < 0.45:
        return f"{rng.randint(1000, 99999):,}"
    if form < 0.6:
        return str(rng.randint(11, 999))
    if form < 0.72:
        return f"{rng.randint(100_000, 9_999_999):,}"
    if form < 0.86:
        return f"{rng.uniform(1, 90):.1f} {rng.choice(('million', 'billion', 'million'))}"
    if form < 0.94:
        return rng.choice(_SMALL)
    return rng.choice(("a dozen", "several hundred", "two million", "ten thousand", "more than a thousand"))


def small_count(rng: random.Random) -> str:
    """A number below a thousand, often in words."""
    return rng.choice(_SMALL) if rng.random() < 0.5 else str(rng.randint(2, 400))


def date(rng: random.Random) -> str:
    """A day, or a month of a year."""
    day, month, year = rng.randint(1, 28), rng.choice(MONTHS), rng.randint(2012, 2029)
    form = rng.random()
    if form < 0.5:
        return f"{day} {month} {year}" if rng.random() < 0.75 else f"{day} {month}"
    if form < 0.68:
        return f"{month} {day}, {year}"
    if form < 0.74:
        return f"{day} {month[:3]} {year}"
    if form < 0.8:
        return datetime.date(year, MONTHS.index(month) + 1, day).isoformat()
    if form < 0.9:
        return f"{rng.choice(WEEKDAYS)}, {day} {month}"
    return f"the {rng.choice(('first', 'second', 'third', 'last'))} {rng.choice(WEEKDAYS)} of {month}"


def duration(rng: random.Random) -> str:
    """A span of time."""
    unit = rng.choice(("minutes", "hours", "days", "weeks", "months", "years"))
    form = rng.random()
    if form < 0.8:
        return f"{small_count(rng)} {unit}"
    return (
        f"{rng.choice(('two', 'three', 'four'))} and a half {unit}"
        if form < 0.9
        else f"{rng.randint(12, 90)} {unit}"
    )


def clock(rng: random.Random) -> str:
    """A time of day."""
    hour, minute = rng.randint(0, 23), rng.choice((0, 0, 15, 30, 45, 20, 10))
    form = rng.random()
    if form < 0.35:
        return f"{hour:02d}:{minute:02d}"
    if form < 0.85:
        minutes = f":{minute:02d}" if minute else ""
        return f"{hour % 12 or 12}{minutes} {rng.choice(('a.m.', 'p.m.', 'am', 'pm'))}"
    return rng.choice(("noon", "midnight", "eight o’clock", "half past nine", "six in the evening", "dawn"))


def weekday_list(rng: random.Random) -> str:
    """One or two days of the week."""
    first, second = rng.sample(WEEKDAYS, 2)
    return rng.choice(
        (f"{first}s", f"{first}s and {second}s", "public holidays", f"{first}s and public holidays")
    )


def _measure(units: tuple[str, ...], low: int, high: int) -> Callable[[random.Random], str]:
    def draw(rng: random.Random) -> str:
        form = rng.random()
        amount = f"{rng.randint(low, high):,}" if form < 0.7 else f"{rng.uniform(low, high):,.1f}"
        return f"{rng.choice(('', '', '', '', 'about ', 'nearly ', 'some '))}{amount} {rng.choice(units)}"

    return draw


def name(rng: random.Random) -> str:
    """A capitalised invented name."""
    return words.coined(rng)


def _companies(rng: random.Random) -> str:
    return words.company(rng)[0]


def _code(rng: random.Random) -> str:
    return "".join(rng.choice("ABCDEFGHIJKLMNOPRSTUVWXYZ") for _ in range(rng.choice((3, 4, 4))))


def _rating(rng: random.Random) -> str:
    return rng.choice(("AAA", "AA", "A", "BBB", "BB", "B", "Baa", "Ba", "CCC")) + rng.choice(
        ("", "+", "-", "1", "2")
    )


def _nouns(rng: random.Random) -> str:
    head = f"{words.adjective(rng)} " if rng.random() < 0.35 else ""
    middle = f"{words.noun(rng)} " if rng.random() < 0.2 else ""
    return head + middle + words.plural(words.noun(rng))


VALUES: dict[str, Callable[[random.Random], str]] = {
    "money": money,
    "m": money,
    "smallmoney": small_money,
    "pershare": per_share,
    "percent": percent,
    "%": percent,
    "count": count,
    "smallcount": small_count,
    "n": lambda rng: str(rng.randint(2, 95)),
    "nn": lambda rng: str(rng.randint(10, 99)),
    "nnn": lambda rng: str(rng.randint(100, 999)),
    "nnnn": lambda rng: str(rng.randint(1000, 9999)),
    "ordinal": lambda rng: rng.choice(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "tenth"]
    ),
    "decimal": lambda rng: f"{rng.uniform(0.1, 12):.1f}",
    "date": date,
    "d": date,
    "year": lambda rng: str(rng.randint(1850, 2026)),
    "y": lambda rng: str(rng.randint(1970, 2028)),
    "birthyear": lambda rng: str(rng.randint(1600, 2000)),
    "month": lambda rng: rng.choice(MONTHS),
    "daymonth": lambda rng: f"{rng.randint(1, 28)} {rng.choice(MONTHS)}",
    "weekday": lambda rng: rng.choice(WEEKDAYS),
    "weekdays": weekday_list,
    "clock": clock,
    "duration": duration,
    "length": _measure(("metres", "m", "feet", "metres"), 3, 900),
    "distance": _measure(("kilometres", "km", "miles"), 2, 900),
    "areasize": _measure(("square kilometres", "hectares", "km²", "acres", "square miles"), 3, 9000),
    "weight": _measure(("kilograms", "kg", "grams", "tonnes", "pounds"), 2, 900),
    "speed": _measure(("km/h", "kilometres an hour", "knots", "mph"), 5, 400),
    "temperature": _measure(("°C", "degrees", "degrees Celsius"), 2, 50),
    "rain": _measure(("millimetres", "mm", "centimetres", "inches"), 20, 2000),
    "volume": _measure(("litres", "cubic metres", "million litres", "million cubic metres"), 2, 9000),
    "tonnes": _measure(("tonnes", "million tonnes", "kilotonnes", "thousand tonnes", "t"), 2, 9000),
    "power": _measure(("kW", "megawatts", "horsepower", "watts", "MW"), 2, 900),
    "person": words.person,
    "p": words.person,
    "lname": lambda rng: words.coined(rng).lower(),
    "company": _companies,
    "c": _companies,
    "place": words.place,
    "l": words.place,
    "country": words.country,
    "name": name,
    "code": _code,
    "rating": _rating,
    "noun": words.noun,
    "adj": words.adjective,
    "nouns": _nouns,
    "lang": lambda rng: rng.choice(words.name_lists()["lang"]),
}


@cache
def _phrases() -> dict[str, Template]:
    heads = [line.partition(" ") for line in read_lines("phrases.txt")]
    return {head[1:]: Template(text) for head, _, text in heads}


def fill(rng: random.Random, slot: str) -> str:
    """Return a value for the slot: a type's name, a digit to tell two apart, `^` for a capital.

    Raises:
        KeyError: no such type.
    """
    upper = slot.endswith("^") or slot[:1].isupper()
    kind = slot.rstrip("^=0123456789")
    kind = kind.lower() if slot[:1].isupper() else kind
    make = VALUES.get(kind)
    text = make(rng) if make else _phrases()[kind].expand(rng, lambda inner: fill(rng, inner))
    return capitalise(text) if upper else text
