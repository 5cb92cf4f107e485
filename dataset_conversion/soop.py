"""SOOP, the Stroke Outcome Optimization Project: acute stroke."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, Layout

_SUBJECT = "{subject:sub-[0-9]+}"

SOOP = DatasetDescription(
    name="soop",
    title="SOOP: diffusion-weighted images with acute stroke lesions, 1715 patients, 1455 with masks (OpenNeuro ds004889)",
    folder_name="SOOP",
    licence="CC0",
    citation="Absher J et al., Scientific Data 2024;11:839, doi 10.1038/s41597-024-03667-5",
    request="https://openneuro.org/datasets/ds004889, no registration",
    label_sets={"lesion": LESION, "acute": LESION, "chronic": LESION},
    channels=("TRACE",),
    layouts=(
        Layout(
            images={
                "TRACE": f"{_SUBJECT}/dwi/{{subject}}_rec-TRACE_dwi.nii[.gz]",
                "ADC": f"{_SUBJECT}/dwi/{{subject}}_rec-ADC_dwi.nii[.gz]",
                "FLAIR": f"{_SUBJECT}/anat/{{subject}}_FLAIR.nii[.gz]",
                "T1": f"{_SUBJECT}/anat/{{subject}}_T1w.nii[.gz]",
            },
            labels={
                name: f"derivatives/lesion_masks/{_SUBJECT}/dwi/{{subject}}_space-TRACE_desc-{desc}_mask.nii[.gz]"
                for name, desc in (("lesion", "lesion"), ("acute", "lesionAcute"), ("chronic", "lesionChronic"))
            },
        ),
    ),
    hint="the masks are in the space of TRACE, to which T1 and FLAIR are not registered",
    unconfirmed="the citation's page; layout and licence were read from the data set's repository",
)
