"""Tables of `nnunet_transfer sources rank` in the report: what was known of the sources before any fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnunet_transfer.comparison.markup import Column
from nnunet_transfer.errors import ComparisonError
from nnunet_transfer.tables import read_rows

RANKING = {
    "source": Column("Source"),
    "fold": Column("fold"),
    "rank": Column("rank"),
    "Dice": Column("Dice (95 % interval)", 3, low="Dice low", high="Dice high"),
    "lesion F1": Column("lesion F1", 3),
    "LogME": Column("LogME", 3),
    "GBC": Column("GBC", 3),
    "LEEP": Column("LEEP", 3),
    "CC-FV": Column("CC-FV", 3),
    "TopoTE": Column("TopoTE", 3),
    "subjects": Column("subjects"),
    "note": Column("Note"),
}
_WORDS = ("target", "fold", "source", "note")
_ALL = ("target", *RANKING, "Dice low", "Dice high")


def check_rankings(paths: Sequence[Path], targets: Sequence[str]) -> None:
    """Refuse what the report of these targets would not show.

    Raises
    ------
    ComparisonError, DataError
        If a file can't be read, is another table, or scores sources for a data set that isn't compared.
    """
    foreign = sorted(set(read_rankings(paths)["target"]) - set(targets))
    if foreign:
        raise ComparisonError(
            f"the ranking is for {foreign[0]}, which is not compared here; compare it, too, or leave it out"
        )


def read_rankings(paths: Sequence[Path]) -> pd.DataFrame:
    """Read tables of `sources rank`, sorted by target, fold and rank.

    Raises
    ------
    ComparisonError, DataError
        If a file can't be read or is another table.
    """
    if not paths:
        return pd.DataFrame(columns=list(_ALL))
    tables = []
    for path in paths:
        (_, header), *rows = read_rows(path)
        if missing := [name for name in _ALL if name not in header]:
            raise ComparisonError(
                f"{path} has no column {missing[0]}, so it is no ranking; write one with `nnunet_transfer sources rank -o`"
            )
        cells = [[*row, *[""] * (len(header) - len(row))][: len(header)] for _, row in rows]
        tables.append(pd.DataFrame(cells, columns=header)[list(_ALL)])
    table = pd.concat(tables, ignore_index=True)
    numbers = [name for name in _ALL if name not in _WORDS]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce")
    return table.sort_values(["target", "fold", "rank"], ignore_index=True, na_position="last")
