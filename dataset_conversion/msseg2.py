"""MSSEG-2, new MS lesions between two time points."""

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout

MSSEG2 = DatasetDescription(
    name="msseg2",
    title="MSSEG-2 (2021): new MS lesions between two FLAIR images, consensus of four raters (40 for training)",
    folder_name="MSSEG2",
    licence="data use agreement of the challenge (OFSEP)",
    citation="Commowick O et al., MSSEG-2 challenge proceedings, MICCAI 2021, hal-03358968",
    request="https://portal.fli-iam.irisa.fr/msseg-2, registration needed",
    label_sets={"new_lesion": LabelRule({"new lesion": 1}, binary=True)},
    channels=("FLAIR-1", "FLAIR-2"),
    default_rater="",
    layouts=tuple(
        Layout(
            prefix=f"{folder}/{{subject:[0-9]{{3}}}}/",
            images={f"FLAIR-{i}": f"flair_time0{i}_on_middle_space.nii[.gz]" for i in (1, 2)},
            labels={"new_lesion": "ground_truth.nii[.gz]"},
            split=split,
        )
        for folder, split in (("training", "train"), ("testing", "test"))
    ),
    unconfirmed="the citation's number, and the folder of the test part; file names agree in several loaders of the data",
)
