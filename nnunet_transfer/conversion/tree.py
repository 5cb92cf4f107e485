"""The files below a data set's root, and those that are skipped."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_transfer.paths import set_folders

VOLUMES = (".nii.gz", ".nii", ".mgz", ".mgh", ".img", ".img.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
#: hidden folders of version control, which are not part of a data set
_VERSION_CONTROL = (".git", ".datalad", ".hg", ".svn")
#: folder that BIDS separates from the raw data. `derivatives` is none of these: descriptions expect masks below that name
_STORE = "sourcedata"
#: device and number of a folder, whatever its name
_Key = tuple[int, int]


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that belongs to no case, with the reason; `path` is relative to the root, with `/`."""

    path: str
    reason: str


@dataclass(frozen=True)
class Tree:
    """Content of a root folder.

    Attributes
    ----------
    files : sorted relative paths, with `/`
    left_out : hidden images, and folders that were not searched
    """

    files: list[str]
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class _Folder:
    """A folder to search.

    Attributes
    ----------
    path, below : its path, and that below the root, with a final `/`
    link : whether it is a link
    hidden : whether it or a folder above it is hidden
    store : whether it is part of a store of data, hidden or `sourcedata`
    """

    path: str
    below: str
    link: bool = False
    hidden: bool = False
    store: bool = False

    @property
    def turn(self) -> int:
        """When it is searched: stores come after links into them, which give files the names that a data set needs."""
        return 2 * self.store + self.link


def walk_tree(root: Path) -> Tree:
    """Find all files below `root`, including those behind links to folders.

    Each folder is searched once, so circular links do no harm; links to a parent of the root are not followed. Hidden files
    and folders are left out, unless a link leads to them, and so are nnU-Net's folders, which hold what was converted before.
    """
    tree = Tree([])
    searched: dict[_Key, str] = {}
    nnunet = {_key(folder) for folder in set_folders() if folder.is_dir()}
    queues: list[deque[_Folder]] = [deque() for _ in range(4)]
    queues[0].append(_Folder(str(root), ""))
    while queue := next(filter(None, queues), None):
        folder = queue.popleft()
        for inner in _sort_entries(folder, _open(folder, root, searched, nnunet, tree), tree):
            queues[inner.turn].append(inner)
    tree.files.sort()
    tree.left_out.sort(key=lambda item: item.path)
    return tree


def _key(path: Path | str) -> _Key:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _open(
    folder: _Folder, root: Path, searched: dict[_Key, str], nnunet: Container[_Key], tree: Tree
) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; none if it can't or needn't be searched."""
    try:
        key = _key(folder.path)
        if folder.below and key in nnunet:
            tree.left_out.append(LeftOut(folder.below, "nnU-Net's folder"))
            return []
        if key in searched:
            kind = "link to a folder" if folder.link else "folder"
            tree.left_out.append(LeftOut(folder.below, f"{kind} that is searched as {searched[key] or '.'}"))
            return []
        if folder.below and root.resolve().is_relative_to(Path(folder.path).resolve()):
            tree.left_out.append(LeftOut(folder.below, "link to a folder that holds the root"))
            return []
        searched[key] = folder.below.rstrip("/")
        with os.scandir(folder.path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        tree.left_out.append(LeftOut(folder.below, f"folder can't be read ({error.strerror})"))
        return []


def _sort_entries(folder: _Folder, entries: Iterable[os.DirEntry[str]], tree: Tree) -> Iterator[_Folder]:
    """Add files to the tree; yield folders and links to folders."""
    for entry in entries:
        path = folder.below + entry.name
        hidden = folder.hidden or entry.name.startswith(".")
        link = entry.is_symlink()
        if _leads_to_folder(entry):
            if link or entry.name not in _VERSION_CONTROL:
                store = folder.store or hidden or entry.name == _STORE
                yield _Folder(entry.path, f"{path}/", link, hidden, store)
        elif not hidden:
            tree.files.append(path)
        elif is_image(path):
            tree.left_out.append(LeftOut(path, "hidden"))


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_image(path: str, endings: tuple[str, ...] = VOLUMES + PICTURES) -> bool:
    """Whether a file name has an image ending, ignoring case."""
    return path.lower().endswith(endings)


def without_ending(name: str) -> str:
    """Return a file's name without its image ending; other names are unchanged."""
    for ending in sorted(VOLUMES + PICTURES, key=len, reverse=True):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def list_tree(root: Path) -> list[str]:
    """Return all files that `walk_tree` finds below `root`."""
    return walk_tree(root).files


def summarise_tree(paths: Iterable[str], limit: int = 4) -> str:
    """Return some of the paths, spread over the list, for a message."""
    paths = list(paths)
    step = max(1, len(paths) // limit)
    return ", ".join(paths[::step][:limit]) or "no file"
