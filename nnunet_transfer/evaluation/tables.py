"""Tables as text that is safe to open in a spreadsheet."""

from __future__ import annotations

import pandas as pd

#: a spreadsheet takes a cell that begins so for a formula, and may run it
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV; texts that a spreadsheet would take for a formula begin with an apostrophe.

    Numbers are unchanged.

    References
    ----------
    OWASP, CSV injection.
    """
    safe = table.copy()
    for position, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            safe.isetitem(position, [_neutral(value) for value in table.iloc[:, position]])
    safe.columns = [_neutral(name) for name in table.columns]
    return str(safe.to_csv(index=False))


def _neutral(value: object) -> object:
    if not isinstance(value, str):
        return value
    # pandas doesn't quote it, and readers take it for the end of a row
    text = value.replace("\r", " ")
    return f"'{text}" if value.startswith(FORMULA) else text
