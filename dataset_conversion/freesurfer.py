"""Any SUBJECTS_DIR of FreeSurfer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nnunet_transfer.conversion.description import Case, DatasetDescription, LabelRule, Layout, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.dataset_conversion import _freesurfer_labels as freesurfer
from nnunet_transfer.subjects import subjects_of


def _keep_scans_together(request: Request, cases: list[Case]) -> list[Case]:
    """Take sessions of a BIDS subject, and time points with their template, as one subject: they are separate folders."""
    images = [image for case in cases for image in case.images.values() if isinstance(image, Path)]
    # folders that are no cases also say which ones belong together
    beside = {path.name for folder in {image.parents[2] for image in images} for path in folder.glob("*.long.*")}
    subject = subjects_of([*(case.subject for case in cases), *map(case_name, beside)])
    return [replace(case, subject=subject[case.subject]) for case in cases]


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
            # templates and the example that FreeSurfer puts or links beside the subjects
            prefix=r"{subject:(?!fsaverage|cvs_avg35|V1_average|[lr]h\.EC_average|bert/)[^/]+}/mri/",
            images={"T1": "orig.mgz", "T1-norm": "norm.mgz", "T1-brain": "brainmask.mgz"},
            labels={name: f"{name}.mgz" for name in ("aseg", "aparc+aseg", "wmparc")},
        ),
    ),
    refine=_keep_scans_together,
)
