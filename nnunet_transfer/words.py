"""Numbers and lists in sentences."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 arm", "7 arms".

    Parameters
    ----------
    one, many : the noun after 1, and after any other number; by default with an s
    """
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def rounded(value: float, decimals: int) -> float:
    """Return a number as it is printed with these decimals; never -0.0.

    NumPy and pandas round 0.0005 to 0.0, but it is printed as 0.001.
    """
    # adding 0.0 turns -0.0 into 0.0
    return round(float(value), decimals) + 0.0


def verb(number: int, one: str, many: str) -> str:
    """Return the verb that agrees with a number: `verb(1, "has", "have")` is "has"."""
    return one if number == 1 else many


def joined(names: Sequence[object], word: str = "and") -> str:
    """Return names as a list in words: "a", "a and b", "a, b and c"."""
    first, last = [str(name) for name in names[:-1]], str(names[-1])
    return f"{', '.join(first)} {word} {last}" if first else last


def shortened(names: Sequence[str], most: int) -> str:
    """Return the first names, and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
