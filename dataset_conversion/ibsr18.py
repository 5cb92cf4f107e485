"""IBSR 18, tissues and structures of healthy brains."""

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout
from nnunet_transfer.dataset_conversion import _freesurfer_labels as freesurfer

_TISSUES = {"cerebrospinal fluid": 1, "grey matter": 2, "white matter": 3}

IBSR18 = DatasetDescription(
    name="ibsr18",
    title="IBSR 18: tissues and structures of 18 healthy brains",
    folder_name="IBSR18",
    licence="CC BY-NC-SA 3.0",
    citation="Internet Brain Segmentation Repository, Center for Morphometric Analysis, Massachusetts General Hospital",
    request="https://www.nitrc.org/projects/ibsr",
    label_sets={
        "tissues": LabelRule(_TISSUES),
        # holes within the brain mask count as cerebrospinal fluid
        "tissues_filled": LabelRule(_TISSUES),
        "structures": LabelRule(freesurfer.subcortical(), ignore=freesurfer.UNDETERMINED),
    },
    layouts=(
        Layout(
            prefix="{subject:IBSR_[0-9]+}/[*/]{subject}",
            images={"T1": "_ana_strip.nii[.gz]", "T1-head": "_ana.nii[.gz]"},
            labels={
                "tissues": "_segTRI_ana.nii[.gz]",
                "tissues_filled": "_segTRI_fill_ana.nii[.gz]",
                "structures": "_seg_ana.nii[.gz]",
            },
        ),
    ),
)
