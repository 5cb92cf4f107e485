"""Pictures in one folder per class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.conversion.tree import PICTURES, list_tree
from nnunet_transfer.dataset_conversion._natural import (
    PARTS,
    TRAIN_OPTION,
    nothing_found,
    split_of,
)


def _find_imagefolder(request: Request) -> Iterator[Case]:
    """Yield every picture in a class folder; pictures outside class folders, as in ImageNet's flat val/, have no class."""
    found = False
    for path in list_tree(request.root):
        *folders, file = path.split("/")
        if Path(file).suffix.lower() not in PICTURES or not folders:
            continue
        part = PARTS.get(folders[0].lower(), "train")
        below = folders[1:] if folders[0].lower() in PARTS else folders
        if not below:
            part, below = "test", [""]  # without a class, there is nothing to train on
        found = True
        yield Case(
            name=case_name(*folders, Path(file).stem),
            images={"RGB": request.root / path},
            split=split_of(request, part),
            class_name=below[0],
        )
    if not found:
        raise nothing_found(request, "CLASS/PICTURE or train/CLASS/PICTURE")


IMAGEFOLDER = DatasetDescription(
    name="imagefolder",
    title="Pictures in one folder per class, such as ImageNet's",
    folder_name="ImageFolder",
    licence="that of the pictures; ImageNet: research and education only, with registration",
    citation="of ImageNet: Russakovsky O et al., Int J Comput Vis 2015;115:211-252, doi 10.1007/s11263-015-0816-y",
    request="ImageNet: https://image-net.org/download",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_imagefolder,
    known_options=TRAIN_OPTION,
    pictures=True,
)
