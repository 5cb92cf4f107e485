"""CIFAR-10's archives: Python batches, and NumPy files in the style of Keras."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.conversion.description import Case
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.dataset_conversion._natural import files_below
from nnunet_transfer.errors import DataError

#: batches.meta
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
_SIZE = 32
#: the only globals in the published batches; any other global is refused
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


@dataclass(frozen=True)
class CifarPicture:
    """One picture of an archive.

    Attributes
    ----------
    path : the archive
    part : "train" or "test"
    index : position in the part
    """

    path: Path
    part: str
    index: int

    def read(self) -> np.ndarray:
        """Return the picture, uint8 of shape `(32, 32, 3)`."""
        return _archive(self.path)[self.part][0][self.index]


def find(root: Path) -> Iterator[Case]:
    """Yield every picture of the archives below `root`.

    Raises
    ------
    DataError
        If an archive can't be read.
    """
    for path in files_below(root, "data_batch_[1-5]", "test_batch", "*.npz"):
        for part, (_, labels) in _archive(path).items():
            for index, label in enumerate(labels):
                yield Case(
                    name=case_name(path.stem, part if path.suffix else "", f"{index:05d}"),
                    images={"RGB": CifarPicture(path, part, index)},
                    split=part,
                    class_name=CLASSES[label],
                )


@lru_cache(maxsize=2)
def _archive(path: Path) -> dict[str, tuple[NDArray[np.uint8], list[int]]]:
    """Return part -> pictures of shape `(n, 32, 32, 3)` and labels."""
    try:
        if path.suffix == ".npz":
            parts = _read_npz(path)
        else:
            with open(path, "rb") as stream:
                stored = _ArraysOnly(stream, encoding="bytes").load()
            rows = np.asarray(stored[b"data"], np.uint8).reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1)
            parts = {"test" if path.name == "test_batch" else "train": (rows, list(stored[b"labels"]))}
        for part, (pictures, labels) in parts.items():
            if pictures.shape != (len(labels), _SIZE, _SIZE, 3) or not set(labels) <= set(range(len(CLASSES))):
                raise ValueError(f"its {part} part has pictures {pictures.shape} and {len(labels)} labels")
    except (OSError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise DataError(f"{path} is not an archive of CIFAR-10 ({error}); download it again") from None
    return parts


def _read_npz(path: Path) -> dict[str, tuple[NDArray[np.uint8], list[int]]]:
    with np.load(path, allow_pickle=False) as stored:
        return {
            part: (np.asarray(stored[f"x_{part}"], np.uint8), [int(y) for y in stored[f"y_{part}"].ravel()])
            for part in ("train", "test")
            if f"x_{part}" in stored
        }
