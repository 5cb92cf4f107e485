"""PASCAL VOC 2012."""

from __future__ import annotations

from collections.abc import Iterator

from nnunet_transfer.conversion.description import Case, DatasetDescription, LabelRule, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.dataset_conversion._natural import (
    TRAIN_OPTION,
    files_below,
    nothing_found,
    split_of,
)
from nnunet_transfer.dataset_conversion._natural_labels import VOC


def _find_voc(request: Request) -> Iterator[Case]:
    lists = files_below(request.root, "ImageSets/Segmentation/*.txt")
    roots = {file.parents[2] for file in lists}
    if len(roots) != 1:
        raise nothing_found(request, "one VOC2012/ImageSets/Segmentation/train.txt")
    (root,) = roots
    for part in ("train", "val"):
        file = root / f"ImageSets/Segmentation/{part}.txt"
        for name in file.read_text(encoding="utf-8").split() if file.exists() else ():
            mask = root / f"SegmentationClass/{name}.png"
            yield Case(
                name=case_name(name),
                images={"RGB": root / f"JPEGImages/{name}.jpg"},
                masks=((mask,),) if mask.exists() else (),
                split=split_of(request, part),
            )


VOC2012 = DatasetDescription(
    name="voc2012",
    title="PASCAL VOC 2012 segmentation: 20 classes of objects (1464 for training, 1449 for validation)",
    folder_name="VOC2012",
    licence="flickr terms of the pictures",
    citation="Everingham M et al., Int J Comput Vis 2015;111:98-136, doi 10.1007/s11263-014-0733-5",
    request="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    # outlines and difficult objects (255) are not evaluated
    label_sets={"classes": LabelRule({name: i for i, name in enumerate(VOC, start=1)}, ignore=(255,))},
    find_cases=_find_voc,
    known_options=TRAIN_OPTION,
    pictures=True,
)
