"""CSV text that is safe to open in a spreadsheet."""

from __future__ import annotations

import pandas as pd

#: spreadsheets treat cells that begin with one of these as formulas, and may run them
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV; an apostrophe is put before text that a spreadsheet would treat as a formula.

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
    # pandas doesn't quote it, and readers treat it as the end of a row
    text = value.replace("\r", " ")
    return f"'{text}" if value.startswith(FORMULA) else text
