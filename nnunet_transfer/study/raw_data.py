"""Whether a study's raw data sets, which it doesn't convert, are as nnU-Net needs them; from names and dataset.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_transfer.conversion.raw_dataset import IGNORE, find_cases, read_dataset_json
from nnunet_transfer.errors import DataError
from nnunet_transfer.words import counted, shortened

#: number of cases in a message
_SHOWN = 3


def check_raw_dataset(folder: Path) -> list[str]:
    """Return what is odd about a raw data set that can be trained on.

    Raises
    ------
    DataError
        If it can't: dataset.json isn't nnU-Net's, or a file of a case is missing.
    """
    content = read_dataset_json(folder)
    _check_labels(folder, content["labels"])
    cases = find_cases(folder, content)
    warnings = []
    stated = content.get("numTraining")
    if isinstance(stated, int) and stated != len(cases):
        warnings.append(
            f"dataset.json of {folder.name} states {counted(stated, 'training case')}, but there are {len(cases)}"
        )
    if not content.get("dataset"):
        labelled = [path.name for path in sorted((folder / "labelsTr").glob(f"*{content['file_ending']}"))]
        if alone := [name for name in labelled if name.removesuffix(content["file_ending"]) not in cases]:
            warnings.append(f"{folder.name} has labels without images, which are left out: {shortened(alone, _SHOWN)}")
    return warnings


def _check_labels(folder: Path, labels: Mapping[str, Any]) -> None:
    file = folder / "dataset.json"
    if str(labels.get("background")) != "0":
        raise DataError(f'{file}: labels must have "background": 0, and a value for every other name')
    try:
        values = {int(v) for value in labels.values() for v in (value if isinstance(value, list) else [value])}
    except (TypeError, ValueError):
        raise DataError(
            f"{file}: labels must give a whole number for every name, or a list of them for a region"
        ) from None
    if sorted(values) != list(range(len(values))):
        found = shortened([str(value) for value in sorted(values)], 10)
        raise DataError(f"{file}: the labels' values are {found}; nnU-Net needs 0, 1, 2, ... without gaps")
    if IGNORE in labels and labels[IGNORE] != max(values):
        raise DataError(f"{file}: the value of the label ignore must be the highest")
