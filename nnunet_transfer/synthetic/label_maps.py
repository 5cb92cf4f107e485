"""The label maps behind synthetic images: a folder, or an nnU-Net data set with or without its images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_transfer.channels import channel_names
from nnunet_transfer.conversion.raw_dataset import IGNORE
from nnunet_transfer.errors import DataError, readable
from nnunet_transfer.files import read_json
from nnunet_transfer.paths import dataset_name, nnunet_raw
from nnunet_transfer.subjects import MADE_FROM, find_origin, subjects_of
from nnunet_transfer.synthetic.tissues import Numbering, Structures, freesurfer_numbering, named_numbering
from nnunet_transfer.synthetic.volumes import read_array

_ENDING = re.compile(r"\.(nii|nii\.gz|mgz)$")
#: entries of dataset.json that are copied to the derived data set
_TERMS = ("licence", "license", "reference")


@dataclass(frozen=True)
class LabelMap:
    """A label map of one person.

    Attributes
    ----------
    name : name of the case
    subject : its subject
    path : label map file
    image : T1 image file, for real images
    """

    name: str
    subject: str
    path: Path
    image: Path | None = None


@dataclass(frozen=True)
class LabelMaps:
    """All label maps of a run, and how to read them.

    Attributes
    ----------
    origin : folder of the label maps
    made_from : name of the data set, and of the data sets that it was made from
    terms : licence and reference, if dataset.json states them
    """

    maps: tuple[LabelMap, ...]
    numbering: Numbering
    origin: Path
    made_from: tuple[str, ...] = ()
    terms: Mapping[str, str] = field(default_factory=dict)


def find_label_maps(
    labels: str,
    *,
    with_images: bool = False,
    channel: str = "",
    structures: Structures | None = None,
    tissues: Mapping[str, str] | None = None,
) -> LabelMaps:
    """Find label maps, and images if requested.

    Parameters
    ----------
    labels : a folder, or an nnU-Net data set by its folder, name or id
    channel : name of the channel that holds T1, if there are several
    structures : name of an output label -> values to merge; default: the data set's labels, or FreeSurfer's, merged
    tissues : label -> tissue, for labels whose name doesn't determine it

    Raises
    ------
    DataError
        If there are none, the files are not volumes, or labels have no known tissue.
    """
    folder = Path(labels)
    if not folder.is_dir():
        folder = nnunet_raw() / dataset_name(labels)
    if (folder / "dataset.json").is_file():
        return _from_dataset(folder, with_images, channel, structures, tissues or {})
    if with_images:
        raise DataError(f"{folder} is not an nnU-Net data set (no dataset.json); real images need one")
    files = sorted(p for p in folder.glob("*") if _ENDING.search(p.name) and not p.name.startswith("."))
    if not files:
        raise DataError(f"{folder} holds no label maps (*.nii, *.nii.gz, *.mgz) and no dataset.json")
    names = [_ENDING.sub("", p.name) for p in files]
    _check_names(folder, names)
    if twice := [n for n in names if names.count(n) > 1]:
        raise DataError(f"{folder} has {twice[0]} with two endings; keep one of them")
    numbering = freesurfer_numbering(structures)
    subject = subjects_of(names)
    # links aren't followed: in some stores of data, the files behind them have no ending
    maps = tuple(LabelMap(n, subject[n], p.absolute()) for n, p in zip(names, files, strict=True))
    return LabelMaps(maps, numbering, folder, (folder.resolve().name,))


def _check_names(folder: Path, names: Iterable[str]) -> None:
    """Raise a `DataError` if a name holds bytes that aren't UTF-8: names of cases are made from it."""
    if unclear := [name for name in names if readable(name) != name]:
        raise DataError(f"{folder} has {readable(unclear[0])}, a name that isn't UTF-8; rename it")


def _from_dataset(
    folder: Path, with_images: bool, channel: str, structures: Structures | None, tissues: Mapping[str, str]
) -> LabelMaps:
    content = _read_dataset_json(folder / "dataset.json")
    ending, labels = content["file_ending"], content["labels"]
    if not _ENDING.search(ending):
        raise DataError(f"{folder.name} has files *{ending}; labels are read from .nii, .nii.gz or .mgz only")
    number = _channel(folder, channel_names(content), channel) if with_images else 0
    files = sorted((folder / "labelsTr").glob(f"*{ending}"))
    if not files:
        raise DataError(f"{folder / 'labelsTr'} holds no *{ending}")
    cases = [p.name.removesuffix(ending) for p in files]
    _check_names(folder, cases)
    images = [folder / "imagesTr" / f"{c}_{number:04d}{ending}" if with_images else None for c in cases]
    if missing := [p for p in images if p is not None and not p.is_file()]:
        raise DataError(f"{missing[0]} does not exist; restore it or remove its case")
    own = {
        name: tuple(value) if isinstance(value, list) else (value,)
        for name, value in labels.items()
        if name not in ("background", IGNORE)
    }
    if content.get("regions_class_order") or not own:
        raise DataError(f"{folder.name} has regions for labels; images are made from one label per voxel")
    origin = find_origin(cases, folder)
    maps = tuple(
        LabelMap(c, origin.subject[c], p.absolute(), i.absolute() if i else None)
        for c, p, i in zip(cases, files, images, strict=True)
    )
    terms = {key: str(content[key]) for key in _TERMS if content.get(key)}
    made_from = (folder.resolve().name, *(content.get(MADE_FROM) or ()))
    numbering = replace(named_numbering(own, tissues, structures), ignored=labels.get(IGNORE))
    if merged := [name for name, values in numbering.structures.items() if numbering.ignored in values]:
        raise DataError(f"structure {merged[0]} holds {numbering.ignored}, the value of voxels to ignore; leave it out")
    return LabelMaps(maps, numbering, folder, made_from, terms)


def _read_dataset_json(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object; complete it as nnU-Net's dataset_format.md says")
    labels, ending, origins = content.get("labels"), content.get("file_ending"), content.get(MADE_FROM) or []
    if not (
        isinstance(labels, dict)
        and all(type(value) is int for raw in labels.values() for value in (raw if isinstance(raw, list) else [raw]))
        and isinstance(ending, str)
    ):
        raise DataError(f"{path} must have labels, each with its value, and a file_ending; complete it")
    if not (isinstance(origins, list) and all(isinstance(name, str) for name in origins)):
        raise DataError(f"{path}: {MADE_FROM} must be a list of data sets' names")
    return content


def _channel(folder: Path, channels: Sequence[str], wanted: str) -> int:
    """Return the number of the T1 channel.

    Raises
    ------
    DataError
        If the T1 channel is ambiguous.
    """
    names = {name.lower(): number for number, name in enumerate(channels)}
    if len(names) == 1 and not wanted:
        return next(iter(names.values()))
    if (name := (wanted or "t1").lower()) in names:
        return names[name]
    raise DataError(f"{folder.name} has the channels {', '.join(names)}; name the one with T1 by --channel")


def read_labels(path: Path, numbering: Numbering) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return a label map in RAS and voxel -> mm.

    Raises
    ------
    DataError
        If it can't be read, has fractions, or values without a meaning.
    """
    volume, affine = read_array(path, upright=True)
    labels = np.rint(volume).astype(np.int32)
    if not np.array_equal(labels, volume):
        raise DataError(f"{path} has values with fractions, so it is not a label map; was it interpolated?")
    numbering.check(np.unique(labels).tolist(), path)
    return labels, affine
