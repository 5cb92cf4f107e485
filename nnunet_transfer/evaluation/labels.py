"""The scored classes: label values and names, from dataset.json or from the masks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.evaluation.masks import LARGEST_LABEL
from nnunet_transfer.files import read_json


@dataclass(frozen=True)
class Label:
    """One foreground class or region.

    Attributes
    ----------
    name : name in tables and figures
    values : label values of the class or region
    """

    name: str
    values: tuple[int, ...]

    @property
    def summary_keys(self) -> tuple[str, ...]:
        """Its possible keys in nnU-Net's summary.json: a region of one value has that of a region or of a label."""
        return (str(self.values), str(self.values[0])) if len(self.values) == 1 else (str(self.values),)


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set.

    Attributes
    ----------
    labels : foreground classes, in the data set's order
    ignore : reference labels that mean "not annotated"
    file_ending : file ending of the masks; None if unknown
    unscored : values that masks may also contain; they count as background
    """

    labels: tuple[Label, ...]
    ignore: frozenset[int] = frozenset()
    file_ending: str | None = None
    unscored: frozenset[int] = frozenset()

    @property
    def allowed(self) -> frozenset[int]:
        """All values that a reference mask may contain; a prediction may contain those that aren't ignored."""
        return frozenset({0, *self.ignore, *self.unscored, *(v for label in self.labels for v in label.values)})

    @property
    def outermost(self) -> tuple[str, ...]:
        """Names of the classes that cover all others without overlap, so that volumes add up; none if classes overlap in part."""
        distinct = {frozenset(label.values): label.name for label in self.labels}
        outer = {values: name for values, name in distinct.items() if not any(values < other for other in distinct)}
        disjoint = sum(map(len, outer)) == len({value for values in outer for value in values})
        return tuple(outer.values()) if disjoint else ()

    def ignoring(self, values: frozenset[int]) -> LabelSet:
        """Return the classes without some label values, which mean "not annotated" where a reference has them.

        Raises
        ------
        SettingsError
            If no class is left.
        """
        kept = (replace(label, values=tuple(v for v in label.values if v not in values)) for label in self.labels)
        labels = tuple(label for label in kept if label.values)
        if not labels:
            raise SettingsError("no label is left to score, since all are ignored; choose others with --labels")
        return replace(self, labels=labels, ignore=self.ignore | values)


def read_label_set(dataset_json: str | os.PathLike[str]) -> LabelSet:
    """Read the classes from nnU-Net's dataset.json.

    Raises
    ------
    DataError
        If the file is missing or describes no foreground class.
    """
    path = Path(dataset_json)
    content = read_json(path)
    try:
        entries: dict[str, Any] = content["labels"]
        named = {name: tuple(map(_value, v if isinstance(v, list) else [v])) for name, v in entries.items()}
        ending = content.get("file_ending")
        if any(0 in values and len(values) > 1 for values in named.values()):
            raise ValueError  # the background is no part of a region
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DataError(
            f"{path} has no readable 'labels'; it must map names to whole numbers from 0 to {LARGEST_LABEL}, or to lists of them "
            f"without 0"
        ) from None
    ignore = frozenset(v for name, values in named.items() if name == "ignore" for v in values)
    labels = tuple(Label(name, values) for name, values in named.items() if name != "ignore" and values != (0,))
    if not labels:
        raise DataError(f"{path} names no foreground label")
    return LabelSet(labels, ignore, ending)


def _value(entry: Any) -> int:
    """Return a label's value, which some write as text."""
    value = int(entry) if isinstance(entry, str) else entry
    if isinstance(value, bool) or value not in range(LARGEST_LABEL + 1):
        raise ValueError
    return int(value)


def label_set_of(values: tuple[int, ...], ignore: frozenset[int] = frozenset()) -> LabelSet:
    """Return a label set for label values without names; each is named after its value.

    Raises
    ------
    SettingsError
        If all of them are ignored.
    """
    return LabelSet(tuple(Label(str(v), (v,)) for v in dict.fromkeys(values))).ignoring(ignore)
