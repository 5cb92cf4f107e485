"""File and folder names of the Brain Imaging Data Structure (BIDS 1.10, bids-specification.readthedocs.io)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from nnunet_transfer.files import parse_json

#: entities of a raw anatomical image; `part` is handled separately
_RAW = frozenset(
    {"sub", "ses", "task", "acq", "ce", "rec", "dir", "run", "echo", "flip", "inv", "mt", "chunk", "sample"}
)
#: entities of derivatives
_DERIVED = frozenset(
    {"space", "desc", "res", "den", "label", "seg", "hemi", "cohort", "split", "proc", "atlas", "scale"}
)
#: folders that BIDS separates from the raw data
_APART = ("derivatives", "sourcedata")


@dataclass(frozen=True)
class BidsName:
    """A file's name without ending: entity -> label, in order, and the suffix."""

    entities: dict[str, str]
    suffix: str

    def part(self, entity: str) -> str:
        """Return an entity with its label, such as `sub-01`; empty if the name doesn't have it."""
        return f"{entity}-{self.entities[entity]}" if entity in self.entities else ""


def parse_name(stem: str) -> BidsName | None:
    """Return the parts of a name without ending, or None if it isn't a BIDS name.

    Labels may contain any character except `_`, because many data sets have subjects such as `sub-CC-0003`.
    """
    *parts, suffix = stem.split("_")
    entities: dict[str, str] = {}
    for part in parts:
        entity, dash, label = part.partition("-")
        if not (dash and label and entity.isalpha()) or entity in entities:
            return None
        entities[entity] = label
    if next(iter(entities), "") != "sub" or "-" in suffix:
        return None
    return BidsName(entities, suffix)


def why_not_raw_magnitude(name: BidsName) -> str:
    """Return why an image is not a raw magnitude image; empty if it is."""
    if (part := name.entities.get("part", "mag")) != "mag":
        return f"{'phase' if part == 'phase' else part} image"
    if derived := [entity for entity in name.entities if entity in _DERIVED]:
        return f"computed or resampled copy ({name.part(derived[0])})"
    if unknown := [entity for entity in name.entities if entity not in _RAW | {"part"}]:
        return f"unknown entity {unknown[0]}-"
    return ""


def folder_apart(path: str) -> str:
    """Return the folder of a path that separates it from the raw data (`derivatives`, `sourcedata`); empty if none."""
    return next((folder for folder in path.split("/")[:-1] if folder in _APART), "")


class Exclusions:
    """Files that the data sets in a tree exclude: those in `.bidsignore`, and folders declared as derivatives.

    Parameters
    ----------
    root : root folder of the tree
    files : relative paths in the tree
    """

    def __init__(self, root: Path, files: Iterable[str]) -> None:
        self._ignored: list[tuple[str, GitIgnoreSpec]] = []
        self._derived: list[str] = []
        folders = {""} | {parent for path in files for parent in _parents(path)}
        for folder in sorted(folders):
            if (root / folder / ".bidsignore").is_file():
                self._ignored.append((folder, _read_patterns(root / folder / ".bidsignore")))
            # in the folder that the user gave, nothing is excluded
            if folder and _is_derivative(root / folder / "dataset_description.json"):
                self._derived.append(folder)

    def reason(self, path: str) -> str:
        """Return why a path is excluded; empty if it isn't."""
        if apart := folder_apart(path):
            return apart
        for folder in self._derived:
            if path.startswith(folder):
                return f"derivatives ({folder}dataset_description.json says so)"
        for folder, patterns in self._ignored:
            if path.startswith(folder) and patterns.match_file(path[len(folder) :]):
                return ".bidsignore"
        return ""


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[:i]) + "/" for i in range(1, len(parts) + 1)]


def _is_derivative(path: Path) -> bool:
    try:
        content = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("DatasetType") == "derivative"


def _read_patterns(path: Path) -> GitIgnoreSpec:
    """Read a `.bidsignore`, which follows the rules of `.gitignore`; as in git, invalid lines are ignored."""
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line))


def _is_pattern(line: str) -> bool:
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
