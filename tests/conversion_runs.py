"""Conversions of a small tree in this process, and what they wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_transfer.conversion import engine
from nnunet_transfer.conversion.catalogue import get_description
from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout
from nnunet_transfer.conversion.engine import convert
from nnunet_transfer.conversion.plan import Options, plan_conversion
from tests import conversion_trees as trees
from tests.conversion_commands import case_r2
from tests.conversion_trees import box, image, write_tree

CASES = 4


def write_cases(folder: Path) -> Path:
    """Write a tree of `CASES` cases laid out like ATLAS R2.0; return its folder."""
    files: trees.Files = {}
    for i in range(CASES):
        files |= case_r2(i, image(i), box(1, i + 1, 2))
    return write_tree(files, folder)


def run(root: Path, **options: Any) -> engine.Outcome:
    """Convert a tree laid out like ATLAS R2.0."""
    return convert(plan_conversion(get_description("atlas_r2"), root, 4, Options(**options)))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return path -> content and time of change of all files below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Return path -> content of all files but the record of how they came about."""
    return {path: content for path, (content, _) in snapshot(folder).items() if path != engine.STATE}


def lab(classes: dict[str, int], **changes: str) -> DatasetDescription:
    """Describe a lab's data set with masks of several classes."""
    facts = {"title": "ours", "licence": "internal", "citation": "none", "request": "ours"} | changes
    layout = Layout(prefix="{subject}/", images={"T1": "t1.nii.gz"}, labels={"tissues": "tissues.nii.gz"})
    return DatasetDescription(
        name="lab", folder_name="Lab", label_sets={"tissues": LabelRule(classes)}, layouts=(layout,), **facts
    )
