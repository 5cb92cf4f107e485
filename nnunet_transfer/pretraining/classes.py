"""The class table of a data set, `classes.csv`, and balanced sampling over it."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.paths import nnunet_preprocessed, nnunet_raw

FILE_NAME = "classes.csv"
COLUMNS = ("case", "class")
#: how often balanced sampling lists a case of the largest class, unless fewer repeats already balance exactly
MIN_REPEATS = 8


@dataclass(frozen=True)
class ClassTable:
    """The class of every case.

    Attributes
    ----------
    classes : class names, sorted; a class's index is its position
    index_of : case -> index of its class
    """

    classes: tuple[str, ...]
    index_of: dict[str, int] = field(repr=False)

    def indices(self, cases: Iterable[str]) -> np.ndarray:
        """Return the class indices of `cases`, int64 of shape `(cases,)`."""
        return np.array([self.index_of[str(case)] for case in cases], dtype=np.int64)

    def counts(self, cases: Iterable[str]) -> dict[str, int]:
        """Return how many of `cases` each class has, in the order of `classes`."""
        found = Counter(self.indices(cases).tolist())
        return {name: found[index] for index, name in enumerate(self.classes)}


def find_class_table(dataset: str) -> Path:
    """Return the path of a data set's class table, in the preprocessed folder or else in the raw one.

    Raises
    ------
    DataError
        If there is none.
    """
    candidates = [nnunet_preprocessed() / dataset / FILE_NAME]
    with contextlib.suppress(SettingsError):  # training needs the preprocessed folder only
        candidates.append(nnunet_raw() / dataset / FILE_NAME)
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(
        f"{dataset} has no {FILE_NAME}: classification needs the class of each case; "
        f"write a table with the columns case,class to {candidates[-1]}"
    )


def read_class_table(path: Path, cases: Iterable[str]) -> ClassTable:
    """Read a table with the columns `case` and `class` and check it against the data set's cases.

    Raises
    ------
    DataError
        If the columns, a case's class or a case is missing, a case is unknown or given twice, there is only
        one class, or a class has a single case (it can't be in training and in validation).
    """
    rows = _read_rows(path)
    known = set(cases)
    names: dict[str, str] = {}
    for number, (case, name) in enumerate(rows, start=2):
        if not case or not name:
            raise DataError(f"{path}, line {number}: case or class is empty; fill it in or remove the line")
        if case in names:
            raise DataError(f"{path}, line {number}: case {case} is given twice; keep one line per case")
        names[case] = name
    _refuse(path, sorted(set(names) - known), "is not in the data set", "remove the line or preprocess the case")
    _refuse(path, sorted(known - set(names)), "has no class", "add a line for it")
    counts = Counter(names.values())
    if len(counts) < 2:
        raise DataError(
            f"{path}: there is only the class {next(iter(counts), 'none')}; classification needs two or more"
        )
    if single := sorted(name for name, count in counts.items() if count == 1):
        raise DataError(
            f"{path}: class {single[0]} has a single case, which can't be in training and in validation; "
            f"add cases or merge the class with another"
        )
    classes = tuple(sorted(counts))
    return ClassTable(classes, {case: classes.index(name) for case, name in sorted(names.items())})


def _read_rows(path: Path) -> list[tuple[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: column {missing[0]} is missing; the first line must name the columns case,class"
                )
            return [((row["case"] or "").strip(), (row["class"] or "").strip()) for row in reader]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; write a table with the columns case,class") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV table in UTF-8 ({error}); save it anew") from None


def _refuse(path: Path, cases: Sequence[str], fault: str, mend: str) -> None:
    if cases:
        more = f" (and {len(cases) - 1} more)" if len(cases) > 1 else ""
        raise DataError(f"{path}: case {cases[0]}{more} {fault}; {mend}")


def balanced_cases(table: ClassTable, cases: Sequence[str]) -> list[str]:
    """Repeat cases so that a uniform draw from the list hits every class equally often.

    Every class has the same number of entries. Within a class all cases have equally many where the list stays
    short, otherwise they differ by one in at least `MIN_REPEATS`. nnU-Net's loader draws uniformly from its data
    set's identifiers, so the list takes the place of sampling probabilities and needs no loader of our own.

    Raises
    ------
    DataError
        If a class has none of the cases.
    """
    members: list[list[str]] = [[] for _ in table.classes]
    for case in cases:
        members[table.index_of[case]].append(case)
    if empty := [name for name, found in zip(table.classes, members, strict=True) if not found]:
        raise DataError(f"no training case of the fold has the class {empty[0]}; take another fold, or mend the split")
    sizes = [len(found) for found in members]
    length = min(math.lcm(*sizes), MIN_REPEATS * max(sizes))
    return [case for found in members for case in itertools.islice(itertools.cycle(found), length)]
