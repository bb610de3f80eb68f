"""Units, numbers and dates, as the tools and the right answers reckon with them."""

from __future__ import annotations

import re
from datetime import date
from fractions import Fraction

from benchmark.worlds.tools import (
    ToolError,
)

# Each unit in the base unit of its kind.
UNITS = {
    "length": {
        "mm": Fraction(1, 1000), "cm": Fraction(1, 100), "m": Fraction(1), "km": Fraction(1000),
        "inch": Fraction(254, 10000), "foot": Fraction(3048, 10000), "mile": Fraction(1609344, 1000),
    },
    "mass": {
        "g": Fraction(1), "kg": Fraction(1000), "ton": Fraction(10**6),
        "ounce": Fraction(28349523125, 10**9), "pound": Fraction(45359237, 10**5),
    },
    "time": {"second": Fraction(1), "minute": Fraction(60), "hour": Fraction(3600), "day": Fraction(86400)},
    "volume": {"ml": Fraction(1, 1000), "liter": Fraction(1), "gallon": Fraction(3785411784, 10**9)},
}  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def number_of(text: str) -> Fraction:
    if not re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", text):
        raise ToolError(f"not a number: {text[:40]!r}")
    return Fraction(text)


def decimal_text(number: Fraction) -> str:
    """Rounded to three decimals (half to even), without zeros at the end."""
    scaled = round(number * 1000)
    text = f"{abs(scaled) // 1000}.{abs(scaled) % 1000:03d}".rstrip("0").rstrip(".")
    return "-" * (scaled < 0) + text


def date_of(text: str) -> date:
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ToolError(f"not a date like 2026-01-31: {text[:40]!r}") from None
