"""ADE20K, the scene-parsing benchmark."""

from __future__ import annotations

from collections.abc import Iterator

from nnunet_transfer.conversion.description import Case, DatasetDescription, LabelRule, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.dataset_conversion._natural import (
    PARTS,
    TRAIN_OPTION,
    files_below,
    nothing_found,
    pictures_in,
    split_of,
)
from nnunet_transfer.dataset_conversion._natural_labels import ADE20K


def _find_ade20k(request: Request) -> Iterator[Case]:
    masks = files_below(request.root, "annotations/training/*.png", "annotations/validation/*.png")
    roots = {mask.parents[2] for mask in masks}
    if len(roots) != 1:
        raise nothing_found(request, "one ADEChallengeData2016/annotations/training")
    (root,) = roots
    for part in ("training", "validation", "testing"):
        for picture in pictures_in(root / "images" / part):
            mask = root / "annotations" / part / f"{picture.stem}.png"
            yield Case(
                name=case_name(picture.stem),
                images={"RGB": picture},
                masks=((mask,),) if mask.exists() else (),
                split=split_of(request, PARTS[part]),
            )


_ADE_CLASSES = {name: i for i, name in enumerate(ADE20K, start=1)}

ADE20K_2016 = DatasetDescription(
    name="ade20k",
    title="ADE20K scene parsing (MIT, 2016): 150 classes (20 210 for training, 2000 for validation)",
    folder_name="ADE20K",
    licence="BSD-3-Clause (annotations); research and education only (pictures)",
    citation="Zhou B et al., CVPR 2017, doi 10.1109/CVPR.2017.544",
    request="http://sceneparsing.csail.mit.edu",
    # 0 means no class; the benchmark ignores it ("reduce_zero_label")
    label_sets={"classes": LabelRule(_ADE_CLASSES, ignore=(0,)), "with_background": LabelRule(_ADE_CLASSES)},
    find_cases=_find_ade20k,
    known_options=TRAIN_OPTION,
    pictures=True,
)
