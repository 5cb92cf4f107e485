"""The label sets of a pooled data set and the set of each case, as written by `nnunet_transfer pool`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_transfer.errors import DataError
from nnunet_transfer.pretraining.case_files import find_case_file, read_case_file
from nnunet_transfer.pretraining.sampling import by_rarest_label

#: entry {set: {label: value}} of dataset.json; the plans store it with the model under the same key
KEY = "label_sets"
#: entry {set: original data set} of dataset.json
POOLED_FROM = "pooled_from"
FILE_NAME = "label_sets.csv"
COLUMN = "set"
_NO_SET = ("background", "ignore")


@dataclass(frozen=True)
class LabelSets:
    """Label sets, numbered in the order of dataset.json.

    The network has a group of outputs for each set: its own background, then its labels.

    Attributes
    ----------
    labels : set -> names and values of its labels
    ignore : value of voxels to ignore; None if there is none
    set_of : case -> index of its set
    """

    labels: dict[str, dict[str, int]]
    ignore: int | None
    set_of: dict[str, int] = field(repr=False)

    @property
    def outputs(self) -> int:
        """Number of outputs of the network."""
        return sum(1 + len(own) for own in self.labels.values())

    @property
    def values(self) -> int:
        """Number of values in the label maps: one background for all, and all labels."""
        return 1 + sum(map(len, self.labels.values()))

    def group(self, number: int) -> slice:
        """Return the outputs of a set."""
        sizes = [1 + len(own) for own in self.labels.values()]
        return slice(sum(sizes[:number]), sum(sizes[: number + 1]))

    def values_of(self, number: int) -> list[int]:
        """Return the label values of a set's outputs, in order."""
        return [0, *list(self.labels.values())[number].values()]

    def counts(self, cases: Iterable[str]) -> dict[str, int]:
        """Return the number of `cases` in each set."""
        numbers = [self.set_of[case] for case in cases]
        return {name: numbers.count(number) for number, name in enumerate(self.labels)}

    def sampled(self, cases: Sequence[str]) -> list[str]:
        """Repeat cases so that large sets don't dominate small ones.

        The probability of a case is inversely proportional to the square root of the size of its set, as in MultiTalent
        (Ulrich et al., MICCAI 2023, doi:10.1007/978-3-031-43898-1_62).
        """
        return by_rarest_label({case: (self.set_of[case],) for case in cases})


def read_label_sets(dataset: str, dataset_json: Mapping[str, Any], cases: Iterable[str]) -> LabelSets:
    """Read the sets of a pooled data set.

    Raises
    ------
    DataError
        If the block contradicts the data set's labels, or `label_sets.csv` is missing or faulty.
    """
    labels = dataset_json[KEY]
    _check_labels(labels, dataset_json["labels"])
    path = find_case_file(dataset, FILE_NAME, [COLUMN], "pre-training on several label sets needs the set of each case")
    _, cells = read_case_file(path, [COLUMN], cases)
    if unknown := sorted(set(cells.values()) - labels.keys()):
        raise DataError(f"{path}: there is no set {unknown[0]} in dataset.json; there are: {', '.join(labels)}")
    numbers = {name: number for number, name in enumerate(labels)}
    return LabelSets(
        {name: dict(own) for name, own in labels.items()},
        dataset_json["labels"].get("ignore"),
        {case: numbers[name] for case, name in cells.items()},
    )


def _check_labels(labels: Any, all_labels: Mapping[str, Any]) -> None:
    expected = [value for name, value in all_labels.items() if name not in _NO_SET]
    blocks = list(labels.values()) if isinstance(labels, Mapping) else []
    fine = blocks and all(isinstance(own, Mapping) and own for own in blocks)
    given = [value for own in blocks for value in own.values()] if fine else []
    if not all(isinstance(value, int) for value in expected + given) or sorted(given) != sorted(expected):
        raise DataError(
            f"dataset.json: {KEY} must give each label's value to one set; make the data set with `nnunet_transfer pool`"
        )
