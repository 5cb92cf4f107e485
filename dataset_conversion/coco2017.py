"""COCO 2017."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnunet_transfer.conversion.description import Case, DatasetDescription, LabelRule, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.dataset_conversion import _coco
from nnunet_transfer.dataset_conversion._natural import (
    TRAIN_OPTION,
    files_below,
    nothing_found,
    split_of,
)
from nnunet_transfer.dataset_conversion._natural_labels import COCO


def _find_coco(request: Request) -> Iterator[Case]:
    files = files_below(request.root, "instances_*2017.json")
    if not files:
        raise nothing_found(request, "annotations/instances_train2017.json")
    for file in files:
        part = file.stem.removeprefix("instances_").removesuffix("2017")
        pictures = file.parents[1] / f"{part}2017"
        for name, mask in _coco.read_masks(file):
            yield Case(
                name=case_name(part, Path(name).stem),
                images={"RGB": pictures / name},
                masks=((mask,),),
                split=split_of(request, part),
            )


COCO2017 = DatasetDescription(
    name="coco2017",
    title="COCO 2017: 80 classes of objects, instances of a class joined (118 287 for training, 5000 for validation)",
    folder_name="COCO2017",
    licence="annotations CC BY 4.0; flickr terms of the pictures",
    citation="Lin TY et al., ECCV 2014, doi 10.1007/978-3-319-10602-1_48",
    request="https://cocodataset.org/#download",
    # the evaluation ignores crowds
    label_sets={"classes": LabelRule({name: i for i, name in COCO.items()}, ignore=(_coco.CROWD,))},
    find_cases=_find_coco,
    known_options=TRAIN_OPTION,
    pictures=True,
)
