"""Shared functions for data sets of natural images.

The published training part goes to imagesTr, the other parts to imagesTs (with labelsTs if they have masks), unless
`--option train=trainval` also uses the validation part for training.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from nnunet_transfer.conversion.description import Request
from nnunet_transfer.conversion.tree import PICTURES, list_tree, summarise_tree
from nnunet_transfer.errors import DataError, SettingsError

TRAIN_OPTION = {"train": "train (default), or trainval to take the validation part for training, too"}

#: of the first folder below or at the root that names a part
PARTS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "test", "testing": "test"}


def split_of(request: Request, part: str) -> str:
    """Return the split that a published part goes to; raise a `SettingsError` if `--option train` is wrong."""
    chosen = request.options.get("train", "train")
    if chosen not in ("train", "trainval"):
        raise SettingsError(f"--option train={chosen}: it must be train or trainval")
    return "train" if part == "train" or (part == "val" and chosen == "trainval") else "test"


def nothing_found(request: Request, wanted: str) -> DataError:
    """Return the error for a folder without the data set, with the expected and the existing files."""
    tree = list_tree(request.root)
    return DataError(
        f"{request.root} holds nothing of this data set: looked for {wanted}; "
        f"found {len(tree)} files such as {summarise_tree(tree)}"
    )


def files_below(root: Path, *patterns: str) -> list[Path]:
    """Return the files below `root`, also those behind links, whose paths end like one of some patterns, sorted."""
    return [root / path for path in list_tree(root) if any(PurePosixPath(path).match(pattern) for pattern in patterns)]


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures directly in a folder, sorted; none if the folder doesn't exist."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(f for f in files if f.suffix.lower() in PICTURES and not f.name.startswith("."))
