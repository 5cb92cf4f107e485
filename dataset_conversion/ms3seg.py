"""MS3SEG, MS lesions separate from other hyperintensities."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, LabelRule, Layout

_SUBJECT = "{subject:[0-9]+}"
_KINDS = {"lesion": "abWMH", "other_hyperintensities": "nWMH", "ventricles": "Vent"}

MS3SEG = DatasetDescription(
    name="ms3seg",
    title="MS3SEG: 100 patients with MS, T1 and T2 registered to FLAIR; lesions, other hyperintensities, ventricles",
    folder_name="MS3SEG",
    licence="CC BY 4.0",
    citation="Bawil MB et al., MS3SEG, figshare 2025, doi 10.6084/m9.figshare.30393475",
    request="https://doi.org/10.6084/m9.figshare.30393475, no registration",
    label_sets={
        "lesion": LESION,
        "other_hyperintensities": LabelRule({"hyperintensity": 1}, binary=True),
        "ventricles": LabelRule({"ventricles": 1}, binary=True),
    },
    layouts=tuple(
        Layout(
            images={
                channel: f"{folder}/{_SUBJECT}/{{subject}}_{file}.nii[.gz]"
                for channel, file in (("T1", "T1WI_reg"), ("FLAIR", "FLAIR"), ("T2", "T2WI_reg"))
            },
            labels={
                name: f"MS_100_patient_masks/{kind}_Masks/{_SUBJECT}/{{subject}}_{kind}_Mask.nii[.gz]"
                for name, kind in _KINDS.items()
            },
        )
        # standardised to 256 x 256 pixels of 1 mm, like the masks
        for folder in ("MS_100_patient_preprocessed",)
    ),
    hint="the masks belong to the images in MS_100_patient_preprocessed",
    unconfirmed="that the masks' headers agree with those of the preprocessed images; folders as in the publisher's README",
)
