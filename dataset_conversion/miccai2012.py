"""The multi-atlas challenge of MICCAI 2012."""

from __future__ import annotations

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout
from nnunet_transfer.dataset_conversion import _neuromorphometrics_labels as neuromorphometrics

MICCAI2012 = DatasetDescription(
    name="miccai2012",
    title="MICCAI 2012 multi-atlas challenge: 134 manual regions (15 for training, 20 for testing)",
    folder_name="MICCAI2012",
    licence="CC BY-NC; labels by Neuromorphometrics under academic subscription",
    citation="Landman BA, Warfield SK (eds), MICCAI 2012 Workshop on Multi-Atlas Labeling; "
    "Marcus DS et al., J Cogn Neurosci 2007;19:1498-1507",
    request="http://www.neuromorphometrics.com/2012_MICCAI_Challenge_Data.html",
    label_sets={"regions": LabelRule(neuromorphometrics.CLASSES, ignore=neuromorphometrics.NOT_SCORED)},
    case="{subject}_{session}",  # the test part has second scans
    layouts=tuple(
        Layout(
            images={"T1": f"{folder}-images/{{subject:[0-9]+}}_{{session:[0-9]+}}.nii[.gz]"},
            labels={"regions": f"{folder}-labels/{{subject:[0-9]+}}_{{session:[0-9]+}}_glm.nii[.gz]"},
            split=split,
        )
        for folder, split in (("training", "train"), ("testing", "test"))
    ),
)
