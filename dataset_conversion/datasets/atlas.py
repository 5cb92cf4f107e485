"""ATLAS: anatomical tracings of lesions after stroke."""

from nnunet_transfer.dataset_conversion.description import LESION, DatasetDescription, Layout

_REQUEST = "https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html"
_BIDS = "{subject}/ses-{session}/anat/{subject}_ses-{session}"
_MNI = "_space-MNI152NLin2009aSym"
_MASK = "_label-*_desc-T1lesion*_mask.nii[.gz]"

ATLAS_R2 = DatasetDescription(
    name="atlas_r2",
    title="ATLAS R2.0: T1 with stroke lesions, in MNI space (655 for training, 300 for testing)",
    folder_name="ATLASR2",
    licence="data use agreement: research only, no passing on",
    citation="Liew S-L et al., Scientific Data 2022;9:320, doi 10.1038/s41597-022-01401-7",
    request=_REQUEST,
    label_sets={"lesion": LESION},
    case="{subject}_ses-{session}",
    layouts=tuple(
        Layout(
            prefix=f"{folder}/{{site}}/{_BIDS}{_MNI}",
            images={"T1": "_T1w.nii[.gz]"},
            labels={"lesion": _MASK},
            split=split,
        )
        for folder, split in (("Training", "train"), ("Testing", "test"))
    ),
)
