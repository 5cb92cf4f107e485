"""CCNRP, chronic focal lesions of mixed causes (OpenNeuro ds007212)."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, Layout

_SUBJECT = "{subject:sub-[^/_]+}"
_IMAGES = {"T1": f"{_SUBJECT}/[ses-*/]anat/{{subject}}[_ses-*]_T1w.nii[.gz]"}

DS007212 = DatasetDescription(
    name="ds007212",
    title="CCNRP: native T1 with chronic focal lesions of mixed causes, 204 people (OpenNeuro ds007212)",
    folder_name="CCNRP",
    licence="as in the data set's dataset_description.json",
    citation="OpenNeuro ds007212, chronic focal brain lesions (CCNRP cohort)",
    request="https://openneuro.org/datasets/ds007212, no registration",
    label_sets={"lesion": LESION},
    layouts=tuple(
        Layout(images=_IMAGES, labels={"lesion": f"{folder}{_SUBJECT}/[ses-*/]anat/{{subject}}_*mask.nii[.gz]"})
        for folder in ("derivatives/*/", "derivatives/", "")
    ),
    unconfirmed="names of the masks, licence; the README confirms one binary mask per person in the space of T1",
)
