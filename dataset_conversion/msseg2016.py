"""MSSEG 2016, MS lesions drawn by seven raters."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, Layout

_MSSEG_RATERS = "{rater:(?i:Consensus|ManualSegmentation_[0-9]+)}.nii[.gz]"

_MSSEG_CHANNELS = {"T1": "T1", "FLAIR": "FLAIR", "T2": "T2", "PD": "DP", "T1-Gd": "GADO"}

MSSEG2016 = DatasetDescription(
    name="msseg2016",
    title="MSSEG 2016: MS lesions, seven raters and their consensus (15 for training, 38 for testing)",
    folder_name="MSSEG2016",
    licence="data use agreement of the challenge (OFSEP, Shanoir)",
    citation="Commowick O et al., NeuroImage 2021;244:118589, doi 10.1016/j.neuroimage.2021.118589",
    request="https://shanoir.irisa.fr (study MSSEG 2016)",
    label_sets={"lesion": LESION},
    case="{site}_{subject}",
    subject="{site}_{subject}",
    default_rater="Consensus",
    layouts=(
        # the raw images are not registered to the masks
        *(
            Layout(
                prefix=f"{folder}/{{site:Center_[0-9]+}}/{{subject:Patient_[0-9]+}}/",
                images={c: f"Preprocessed_Data/{file}_preprocessed.nii[.gz]" for c, file in _MSSEG_CHANNELS.items()},
                labels={"lesion": f"Masks/{_MSSEG_RATERS}"},
                split=split,
            )
            for folder, split in (("Training", "train"), ("Testing", "test"))
        ),
        Layout(
            prefix="{site:[0-9]{2}}{subject:[0-9]{3}[A-Z]{4}}[_1]/",
            images={
                "T1": "3DT1.nii[.gz]",
                "FLAIR": "3DFLAIR.nii[.gz]",
                "T2": "T2.nii[.gz]",
                "PD": "DP.nii[.gz]",
                "T1-Gd": "3DT1GADO.nii[.gz]",
            },
            labels={"lesion": _MSSEG_RATERS},
        ),
    ),
    hint="the raw images of this data set are not registered to the masks; take the preprocessed ones",
)
