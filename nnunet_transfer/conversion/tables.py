"""The files of a data set besides the images: dataset.json, manifest, skips, label map, classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nnunet_transfer import __version__
from nnunet_transfer.conversion.case_search import Problem
from nnunet_transfer.conversion.description import DatasetDescription, LabelRule
from nnunet_transfer.conversion.record import Record, relative_to
from nnunet_transfer.conversion.tree import LeftOut
from nnunet_transfer.files import write_json
from nnunet_transfer.subjects import MANIFEST
from nnunet_transfer.tables import write_csv

SKIPS = "conversion_skips.csv"
LEFT_OUT = "conversion_left_out.csv"
CLASSES = "classes.csv"
LABEL_MAP = "label_map.json"
MANIFEST_COLUMNS = (
    "case",
    "source_name",
    "subject",
    "session",
    "site",
    "rater",
    "split",
    "source_files",
    "sha256",
    "dtype",
    "orientation",
    "written_orientation",
    "spacing",
    "shape",
    "label_values",
    "label_voxels",
    "written_values",
    "written_voxels",
    "source_lesion_ml",
    "source_lesions",
    "lesion_ml",
    "lesions",
    "actions",
)


def write_dataset_json(
    folder: Path, description: DatasetDescription, channels: tuple[str, ...], rule: LabelRule, records: Sequence[Record]
) -> None:
    """Write dataset.json, including the terms of the data set."""
    write_json(
        folder / "dataset.json",
        {
            "channel_names": description.channel_names(channels),
            "labels": rule.names(),
            "numTraining": sum(record.split == "train" for record in records),
            "file_ending": description.file_ending,
            "description": description.title,
            "licence": description.licence,
            "reference": description.citation,
            "converted_by": f"nnunet_transfer {__version__} convert {description.name}",
        },
    )


def write_manifest(folder: Path, records: Iterable[Record]) -> None:
    """Write one line per case: its source files, findings and actions. Lists are joined with ` | `."""
    rows = ([_cell(getattr(record, column)) for column in MANIFEST_COLUMNS] for record in records)
    write_csv(folder / MANIFEST, MANIFEST_COLUMNS, rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, tuple):
        return " | ".join(_cell(item) for item in value)
    return str(value)


def write_skips(folder: Path, problems: Iterable[Problem], root: Path) -> None:
    """Write one line per case that was left out, with the reason."""
    rows = ([p.case, " | ".join(relative_to(path, root) for path in p.files), p.reason] for p in problems)
    write_csv(folder / SKIPS, ("case", "source_files", "reason"), rows)


def write_left_out(folder: Path, left_out: Iterable[LeftOut]) -> None:
    """Write one line per image below the root that belongs to no case, with the reason."""
    write_csv(folder / LEFT_OUT, ("file", "reason"), ((item.path, item.reason) for item in left_out))


def write_classes(folder: Path, records: Iterable[Record]) -> None:
    """Write the class of each training case, if the data set has classes."""
    rows = [(r.case, r.class_name) for r in records if r.split == "train" and r.class_name]
    if rows:
        write_csv(folder / CLASSES, ("case", "class"), rows)


def write_label_map(folder: Path, rule: LabelRule) -> None:
    """Write the raw value of each label, if any value changed."""
    if rule.remaps:
        names = {label: name for name, label in rule.names().items()}
        rows = {str(raw): {"label": label, "name": names[label]} for raw, label in sorted(rule.values().items())}
        write_json(folder / LABEL_MAP, rows)
