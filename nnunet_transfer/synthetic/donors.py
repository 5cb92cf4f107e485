"""Folders of lesion masks in a common space, and the donors of the masks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.conversion.labels import LARGEST_LESION_ML, binarised, find_level, value_counts
from nnunet_transfer.errors import DataError, SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.subjects import DONORS, donor_key, donors_in
from nnunet_transfer.synthetic.lesions import MODELS
from nnunet_transfer.synthetic.volumes import read_array
from nnunet_transfer.tables import read_rows

_ENDING = re.compile(r"\.nii(\.gz)?$")
_SUFFIX = re.compile(r"[_-](lesion|lesions|mask|label|seg|roi)$", re.IGNORECASE)
#: how far interpolation, such as that by splines, may leave the range from 0 to 1
_OVERSHOOT = 0.5
_ADVICE = "a mask has one value beside 0, or from 0 to 1 if it was interpolated"


@dataclass(frozen=True)
class Donor:
    """A person whose lesion mask is pasted into other people's images.

    Attributes
    ----------
    name : file name without ending and `_lesion`
    kind : key of `MODELS`
    path : mask file
    """

    name: str
    kind: str
    path: Path


def find_donors(folders: Sequence[str]) -> list[Donor]:
    """Find the masks in folders given as `FOLDER`, or as `KIND=FOLDER` with a key of `MODELS`; sorted.

    Raises
    ------
    SettingsError, DataError
        If a kind is unknown, a folder has no masks, or two masks belong to the same donor.
    """
    donors: list[Donor] = []
    for text in folders:
        kind, equals, folder = text.partition("=")
        if not equals:
            kind, folder = "any", text
        if kind not in MODELS:
            raise SettingsError(f"--lesions {text}: kind '{kind}' is unknown; there are: {', '.join(MODELS)}")
        path = Path(folder)
        found = sorted(p for p in path.glob("*.nii*") if _ENDING.search(p.name) and not p.name.startswith("."))
        if not found:
            raise DataError(f"{path} holds no masks (*.nii.gz); give a folder of lesion masks with --lesions")
        # links aren't followed: in some stores of data, the files behind them have no ending
        donors += [Donor(donor_name(p), kind, p.absolute()) for p in found]
    seen: dict[str, Donor] = {}
    for donor in donors:
        if (twin := seen.setdefault(donor_key(donor.name), donor)) is not donor:
            raise DataError(f"{twin.path} and {donor.path} are both of donor {donor.name}; keep one of them")
    return donors


def donor_name(path: Path) -> str:
    """Return the donor's name: the file name without ending and suffixes such as `_lesion`."""
    return _SUFFIX.sub("", _ENDING.sub("", path.name))


def names_to_leave_out(stated: Iterable[str]) -> set[str]:
    """Return the keys of donors to leave out.

    Parameters
    ----------
    stated : names of donors or of their masks; tables as `FILE` or `FILE:COLUMN` (default `donor`); folders of data sets, for
        all of their donors

    Raises
    ------
    DataError
        If a table can't be read or lacks the column, or a data set has no donors.
    """
    keys: set[str] = set()
    for text in stated:
        file, _, column = text.partition(":")
        if (Path(text) / "dataset.json").is_file():
            donors = donors_in(read_json(Path(text) / "dataset.json"))
            if not donors:
                raise DataError(f"{Path(text) / 'dataset.json'} has no {DONORS}; name the donors to leave out")
            keys |= {donor_key(donor) for donor in donors.values()}
            continue
        if not re.search(r"\.(csv|tsv)$", file):
            keys |= _keys(text)
            continue
        (_, header), *rows = read_rows(Path(file))
        column = column or "donor"
        if not rows:
            raise DataError(f"{file} has no rows; give a table of donors to leave out")
        if column not in header:
            raise DataError(f"{file} has no column {column}; name the one with the donors, as in {file}:mask_source")
        place = header.index(column)
        keys |= {key for _, cells in rows if any(cells[place : place + 1]) for key in _keys(cells[place])}
    return keys


def _keys(text: str) -> set[str]:
    """Return the keys of a donor given by name, or by the name of the mask's file."""
    return {donor_key(text), donor_key(donor_name(Path(text)))}


def read_mask(donor: Donor) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return a donor's mask with axes `(x, y, z)`, and voxel -> mm in RAS.

    Raises
    ------
    DataError
        If the file can't be read, isn't 3D, is empty, or shows several levels, as label maps and images do.
    """
    mask, affine = read_array(donor.path)
    lesion = _lesion(mask, abs(float(np.linalg.det(affine[:3, :3]))) / 1000, donor.path)
    if not lesion.any():
        raise DataError(f"{donor.path} is empty; remove it from its folder")
    return lesion, affine


def _lesion(mask: NDArray[Any], voxel_ml: float, path: Path) -> NDArray[np.bool_]:
    """Return the lesion's voxels: those of the single level or, in an interpolated mask, those above half of the largest.

    Floating-point values from 0 to 1, beyond which interpolation may reach a little, are an interpolated mask.
    """
    low, largest = float(mask.min()), float(mask.max())
    if mask.dtype.kind != "f" or low < -_OVERSHOOT or largest > 1 + _OVERSHOOT:
        return binarised(mask, find_level(value_counts(mask), mask.dtype, str(path), _ADVICE)).view(np.bool_)
    edge_ml = np.count_nonzero((mask > 0.1 * largest) & (mask < 0.9 * largest)) * voxel_ml
    if edge_ml > LARGEST_LESION_ML:
        raise DataError(
            f"{path} is not a binary mask: its values are from {low:.6g} to {largest:.6g}, in {edge_ml:.0f} ml neither 0 nor "
            f"the largest, like an image; {_ADVICE}"
        )
    return mask > 0.5 * largest
