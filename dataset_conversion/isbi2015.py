"""ISBI 2015, MS lesions over time drawn by two raters."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, Layout

_ISBI_CHANNELS = {"T1": "mprage", "FLAIR": "flair", "T2": "t2", "PD": "pd"}

ISBI2015 = DatasetDescription(
    name="isbi2015",
    title="ISBI 2015 longitudinal MS lesions: 21 scans of 5 patients, two raters",
    folder_name="ISBI2015",
    licence="research only, registration needed",
    citation="Carass A et al., NeuroImage 2017;148:77-102, doi 10.1016/j.neuroimage.2016.12.064",
    request="https://smart-stats-tools.org/lesion-challenge-2015",
    label_sets={"lesion": LESION},
    case="{subject}_{session}",
    default_rater=None,
    layouts=tuple(
        Layout(
            prefix=f"{{subject:{folder}[0-9]+}}/",
            images={
                c: f"preprocessed/{{subject}}_{{session}}_{file}_pp.nii[.gz]" for c, file in _ISBI_CHANNELS.items()
            },
            labels={"lesion": "masks/{subject}_{session}_mask{rater:[0-9]}.nii[.gz]"},
            split=split,
        )
        for folder, split in (("training", "train"), ("test", "test"))
    ),
)
