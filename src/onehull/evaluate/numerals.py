"""How numbers are written in the page and in the terminal."""

from __future__ import annotations

UNDEFINED = "undefined"

Value = int | float | None


def count(value: Value) -> str:
    """``1,234,567``."""
    return UNDEFINED if value is None else f"{value:,.0f}"


def fixed(value: Value, digits: int = 4) -> str:
    """``0.7234``: for AUC and other figures of order one."""
    return UNDEFINED if value is None else minus(f"{value:.{digits}f}")


def signed(value: Value, digits: int = 4) -> str:
    """``+0.0012``: for differences."""
    return UNDEFINED if value is None else minus(f"{value:+.{digits}f}")


def significant(value: Value, digits: int = 4) -> str:
    """Four significant digits without exponent: for errors in the unit of the label."""
    if value is None:
        return UNDEFINED
    size = abs(value)
    if size >= 10**digits:
        return minus(f"{value:,.0f}")
    text = f"{value:#.{digits}g}".rstrip(".")
    return minus(text if "e" not in text else f"{value:.2e}")


def percent(value: Value) -> str:
    """A share with three significant digits: ``1.53 %``."""
    if value is None:
        return UNDEFINED
    if value == 0:
        return "0 %"
    text = f"{100 * value:#.3g}".rstrip(".")
    return f"{text if 'e' not in text else f'{100 * value:.1e}'} %"


def size(value: int) -> str:
    """Bytes with a unit: ``1.4 MB``."""
    amount = float(value)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def minus(text: str) -> str:
    """A real minus sign, which is as wide as the plus."""
    return text.replace("-", "−")
