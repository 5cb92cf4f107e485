"""Tables of scores as CSV, safe to open in a spreadsheet, and whether two of them are of one run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from nnunet_transfer.evaluation.scores import LESION_FIELDS

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


def are_of_one_run(cases: Path, lesions: Path) -> bool:
    """Whether a table of lesions belongs to a table of cases: both have as many lesions of each case, found and missed.

    Parameters
    ----------
    cases, lesions : files, as `evaluate` writes them; what can't be read belongs to nothing
    """
    try:
        rows, found = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (cases, lesions))
        protocols = [name.removesuffix("_n_ref") for name in rows.columns if name.endswith("_n_ref")]
        stated: Counter[tuple[str, ...]] = Counter()
        for row in rows.to_dict("records"):
            for name in protocols:
                lesion, missed = (name, row["case"], row["label"]), int(row[f"{name}_fn"])
                stated[*lesion, "True"] += int(row[f"{name}_n_ref"]) - missed
                stated[*lesion, "False"] += missed
        # a table of another command has more columns
        known = bool(protocols) and list(found.columns) == ["case", *LESION_FIELDS]
        return known and stated == Counter(
            found[["protocol", "case", "label", "detected"]].itertuples(index=False, name=None)
        )
    except (OSError, ValueError, KeyError):
        return False
