"""Tables with one class, several classes or a number for each case."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from nnunet_transfer.errors import DataError
from nnunet_transfer.pretraining.case_files import SEPARATOR
from nnunet_transfer.pretraining.sampling import by_rarest_label, evenly


class CaseTable(ABC):
    """A table of cases. The name of its second column determines the kind of table.

    Attributes
    ----------
    column : name of the column
    may_be_empty : whether cells may be empty
    """

    column: ClassVar[str]
    may_be_empty: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def from_cells(cls, cells: Mapping[str, str]) -> CaseTable:
        """Make the table from case -> cell.

        Raises
        ------
        DataError
            Without the file's name, if nothing can be learnt from the cells.
        """

    @abstractmethod
    def check_training(self, cases: Sequence[str]) -> None:
        """Raise a `DataError` if a fold's training cases don't cover everything to learn."""

    def counts(self, cases: Iterable[str]) -> dict[str, int]:
        """Return the number of `cases` in each class; empty for a table without classes."""
        return {}


@dataclass(frozen=True)
class ClassTable(CaseTable):
    """The class of every case.

    Attributes
    ----------
    classes : class names, sorted; a class's index is its position
    index_of : case -> index of its class
    """

    column = "class"
    classes: tuple[str, ...]
    index_of: dict[str, int] = field(repr=False)

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> ClassTable:
        """Make the table; also refuse a single class, and classes with a single case."""
        counts = Counter(cells.values())
        if len(counts) < 2:
            raise DataError(f"there is only the class {next(iter(counts), 'none')}; classification needs two or more")
        _refuse_single(counts)
        classes = tuple(sorted(counts))
        return cls(classes, {case: classes.index(name) for case, name in sorted(cells.items())})

    def indices(self, cases: Iterable[str]) -> np.ndarray:
        """Return the class indices of `cases`, int64 of shape `(cases,)`."""
        return np.array([self.index_of[str(case)] for case in cases], dtype=np.int64)

    def counts(self, cases: Iterable[str]) -> dict[str, int]:
        """Return the number of `cases` in each class, in the order of `classes`."""
        found = Counter(self.indices(cases).tolist())
        return {name: found[index] for index, name in enumerate(self.classes)}

    def check_training(self, cases: Sequence[str]) -> None:
        """Refuse a fold without training cases of a class."""
        _refuse_unseen(self.counts(cases))

    def balanced(self, cases: Sequence[str]) -> list[str]:
        """Repeat cases so that a uniform draw hits every class equally often."""
        self.check_training(cases)
        members: list[list[str]] = [[] for _ in self.classes]
        for case in cases:
            members[self.index_of[case]].append(case)
        return evenly(members)


@dataclass(frozen=True)
class LabelTable(CaseTable):
    """The classes of every case, which may be several or none.

    Attributes
    ----------
    classes : class names, sorted; a class's index is its position
    indices_of : case -> indices of its classes
    """

    column = "classes"
    may_be_empty = True
    classes: tuple[str, ...]
    indices_of: dict[str, frozenset[int]] = field(repr=False)

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> LabelTable:
        """Make the table; also refuse a table without classes, and classes of a single case or of all cases."""
        names = {case: {part.strip() for part in cell.split(SEPARATOR)} - {""} for case, cell in cells.items()}
        counts = Counter(name for found in names.values() for name in found)
        if not counts:
            raise DataError("no case has a class; fill in the column classes")
        _refuse_single(counts)
        if everywhere := sorted(name for name, count in counts.items() if count == len(cells)):
            raise DataError(f"every case has the class {everywhere[0]}, which leaves nothing to tell apart; remove it")
        classes = tuple(sorted(counts))
        return cls(classes, {c: frozenset(map(classes.index, found)) for c, found in sorted(names.items())})

    def matrix(self, cases: Sequence[str]) -> np.ndarray:
        """Return which classes the cases have, boolean of shape `(cases, classes)`."""
        result = np.zeros((len(cases), len(self.classes)), dtype=bool)
        for row, case in enumerate(cases):
            result[row, list(self.indices_of[str(case)])] = True
        return result

    def counts(self, cases: Iterable[str]) -> dict[str, int]:
        """Return the number of `cases` with each class, in the order of `classes`."""
        return dict(zip(self.classes, self.matrix(list(cases)).sum(axis=0).tolist(), strict=True))

    def check_training(self, cases: Sequence[str]) -> None:
        """Refuse a fold in which no or all training cases have a class."""
        counts = self.counts(cases)
        _refuse_unseen(counts)
        if everywhere := [name for name, count in counts.items() if count == len(cases)]:
            raise DataError(
                f"every training case of the fold has the class {everywhere[0]}; use another fold, or fix the split"
            )

    def balanced(self, cases: Sequence[str]) -> list[str]:
        """Repeat cases so that a uniform draw hits rare classes more often."""
        return by_rarest_label({case: self.indices_of[case] for case in cases})


@dataclass(frozen=True)
class ValueTable(CaseTable):
    """A number for every case, such as the age.

    Attributes
    ----------
    value_of : case -> value, finite
    """

    column = "value"
    value_of: dict[str, float] = field(repr=False)

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> ValueTable:
        """Make the table; also refuse values that are not finite numbers, and constant values."""
        values = {case: _number(case, cell) for case, cell in sorted(cells.items())}
        if len(set(values.values())) < 2:
            raise DataError(
                f"all values are {next(iter(cells.values()), 'missing')}; regression needs values that differ"
            )
        return cls(values)

    def values(self, cases: Iterable[str]) -> np.ndarray:
        """Return the values of `cases`, float64 of shape `(cases,)`."""
        return np.array([self.value_of[str(case)] for case in cases], dtype=np.float64)

    def scale(self, cases: Iterable[str]) -> tuple[float, float]:
        """Return mean and standard deviation over `cases`.

        Raises
        ------
        DataError
            If all cases have the same value.
        """
        values = self.values(sorted(cases))
        if len(set(values.tolist())) < 2:
            raise DataError("all training cases of the fold have the same value; use another fold, or fix the split")
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = float(values.mean()), float(values.std())
        if not (math.isfinite(mean) and math.isfinite(deviation) and deviation > 0):
            raise DataError(f"values from {values.min():g} to {values.max():g} can't be standardised; use another unit")
        return mean, deviation

    def check_training(self, cases: Sequence[str]) -> None:
        """Refuse a fold whose training cases all have the same value."""
        self.scale(cases)


def _number(case: str, cell: str) -> float:
    try:
        number = float(cell) if "_" not in cell else math.nan  # float() takes 4_1 for 41
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"the value of case {case}, '{cell}', is not a finite number; write it as 41.5, or remove the case from the "
            f"data set if it is unknown"
        )
    return number


def _refuse_single(counts: Mapping[str, int]) -> None:
    if single := sorted(name for name, count in counts.items() if count == 1):
        raise DataError(
            f"class {single[0]} has a single case, which can't be in training and in validation; "
            f"add cases or merge the class with another"
        )


def _refuse_unseen(counts: Mapping[str, int]) -> None:
    if unseen := [name for name, count in counts.items() if not count]:
        raise DataError(f"no training case of the fold has the class {unseen[0]}; use another fold, or fix the split")
