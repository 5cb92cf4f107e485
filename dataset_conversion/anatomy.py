"""Parcellations of the whole brain."""

from __future__ import annotations

from dataclasses import replace

from nnunet_transfer.conversion.description import Case, DatasetDescription, LabelRule, Layout, Request
from nnunet_transfer.dataset_conversion import _freesurfer_labels as freesurfer
from nnunet_transfer.dataset_conversion import _neuromorphometrics_labels as neuromorphometrics
from nnunet_transfer.dataset_conversion._hammers_labels import NAMES as HAMMERS_NAMES
from nnunet_transfer.subjects import BIDS_SUBJECT


def _keep_twins_together(request: Request, cases: list[Case]) -> list[Case]:
    return [replace(case, subject="Twins-2") if case.subject.startswith("Twins-2") else case for case in cases]


def _keep_sessions_together(request: Request, cases: list[Case]) -> list[Case]:
    """Take BIDS subjects out of names such as sub-01_ses-2: sessions of one subject are folders of their own."""
    return [replace(case, subject=found[1]) if (found := BIDS_SUBJECT.search(case.subject)) else case for case in cases]


_DKT31 = freesurfer.cortical(region for region in freesurfer.DESIKAN_KILLIANY if region not in freesurfer.NOT_IN_DKT31)
_DKT31_REST = tuple(base + region for base in (1000, 2000) for region in (0, *freesurfer.NOT_IN_DKT31))

MINDBOGGLE101 = DatasetDescription(
    name="mindboggle101",
    title="Mindboggle-101: manual DKT31 cortical labels; overlaps with OASIS and MICCAI 2012",
    folder_name="Mindboggle101",
    licence="CC BY-NC-SA (per cohort; see the data set's licence files)",
    citation="Klein A, Tourville J, Front Neurosci 2012;6:171, doi 10.3389/fnins.2012.00171",
    request="https://osf.io/nhtur",
    label_sets={
        "DKT31": LabelRule(_DKT31, ignore=_DKT31_REST),
        "DKT31+aseg": LabelRule(
            _DKT31 | freesurfer.subcortical(freesurfer.CEREBRAL_CORTEX),
            # cortex of neither protocol
            ignore=(*_DKT31_REST, *freesurfer.CEREBRAL_CORTEX, *freesurfer.UNDETERMINED),
        ),
    },
    layouts=tuple(
        Layout(
            prefix="{site}_volumes/{subject}/",
            images={"T1": f"t1weighted{space}.nii[.gz]", "T1-brain": f"t1weighted_brain{space}.nii[.gz]"},
            labels={
                "DKT31": f"labels.DKT31.manual{space}.nii[.gz]",
                "DKT31+aseg": f"labels.DKT31.manual+aseg{space}.nii[.gz]",
            },
        )
        for space in ("", ".MNI152")
    ),
    refine=_keep_twins_together,
)

_CORTEX = freesurfer.cortical()
_WHITE_MATTER = freesurfer.cortical(prefix="wm", left=3000) | {
    "Left-UnsegmentedWhiteMatter": 5001,
    "Right-UnsegmentedWhiteMatter": 5002,
}

FREESURFER = DatasetDescription(
    name="freesurfer",
    title="any FreeSurfer SUBJECTS_DIR: conformed T1 with automated labels (silver standard)",
    folder_name="FreeSurfer",
    licence="that of the images",
    citation="Fischl B, NeuroImage 2012;62:774-781, doi 10.1016/j.neuroimage.2012.01.021",
    request="your own SUBJECTS_DIR",
    label_sets={
        "aseg": LabelRule(freesurfer.subcortical(), ignore=freesurfer.UNDETERMINED),
        "aparc+aseg": LabelRule(
            _CORTEX | freesurfer.subcortical(freesurfer.CEREBRAL_CORTEX),
            ignore=(1000, 2000, *freesurfer.CEREBRAL_CORTEX, *freesurfer.UNDETERMINED),
        ),
        "wmparc": LabelRule(
            _CORTEX
            | _WHITE_MATTER
            | freesurfer.subcortical((*freesurfer.CEREBRAL_CORTEX, *freesurfer.CEREBRAL_WHITE_MATTER)),
            ignore=(
                *(1000, 2000, 3000, 4000),
                *freesurfer.CEREBRAL_CORTEX,
                *freesurfer.CEREBRAL_WHITE_MATTER,
                *freesurfer.UNDETERMINED,
            ),
        ),
    },
    layouts=(
        Layout(
            # templates that FreeSurfer puts or links beside the subjects
            prefix=r"{subject:(?!fsaverage|[lr]h\.EC_average|bert$)[^/]+}/mri/",
            images={"T1": "orig.mgz", "T1-norm": "norm.mgz", "T1-brain": "brainmask.mgz"},
            labels={name: f"{name}.mgz" for name in ("aseg", "aparc+aseg", "wmparc")},
        ),
    ),
    refine=_keep_sessions_together,
)

HAMMERS = DatasetDescription(
    name="hammers",
    title="Hammers n30r95: 95 manual regions of 30 young adults",
    folder_name="Hammers",
    licence="academic licence of Imperial College and King's College London",
    citation="Hammers A et al., Hum Brain Mapp 2003;19:224-247; Faillenot I et al., NeuroImage 2017;150:88-98",
    request="https://brain-development.org/brain-atlases/adult-brain-atlases",
    label_sets={"regions": LabelRule({name: value for value, name in enumerate(HAMMERS_NAMES, start=1)})},
    layouts=tuple(
        Layout(images={"T1": f"{image}.nii[.gz]"}, labels={"regions": f"{label}.nii[.gz]"})
        for image, label in (
            ("Hammers*MRI*/{subject:a[0-9]+}", "Hammers*label*/{subject:a[0-9]+}-seg"),
            ("Images/{subject:a[0-9]+}", "Labels/{subject:a[0-9]+}"),
            ("{subject:a[0-9]+}", "{subject:a[0-9]+}-seg"),
        )
    ),
    hint="in this data set the labels' headers are known to be displaced while the voxels correspond: look at a case, "
    "then take --geometry copy-from-image",
)

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
