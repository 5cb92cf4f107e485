"""Mindboggle-101, manual labels of the cortex."""

from __future__ import annotations

from dataclasses import replace

from nnunet_transfer.conversion.description import Case, DatasetDescription, LabelRule, Layout, Request
from nnunet_transfer.dataset_conversion import _freesurfer_labels as freesurfer


def _keep_twins_together(request: Request, cases: list[Case]) -> list[Case]:
    return [replace(case, subject="Twins-2") if case.subject.startswith("Twins-2") else case for case in cases]


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
