"""Shifts 2.0, MS lesions under shift of site."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, Layout

_SHIFTS_CHANNELS = {
    "T1": "t1/{subject}_T1",
    "FLAIR": "flair/{subject}_FLAIR",
    "T2": "t2/{subject}_T2",
    "PD": "pd/{subject}_PD",
}

SHIFTS_MS = DatasetDescription(
    name="shifts_ms",
    title="Shifts 2.0, MS part: lesions under shift of site; built from MSSEG, ISBI and Ljubljana among others",
    folder_name="ShiftsMS",
    licence="CC BY-NC-SA 4.0; the part from MSSEG by request",
    citation="Malinin A et al., arXiv:2206.15407",
    request="https://doi.org/10.5281/zenodo.7051658",
    label_sets={"lesion": LESION},
    case="{folder}_{subject}",
    subject="{folder}_{subject}",
    layouts=tuple(
        Layout(
            prefix=f"{{folder:{folder}}}/",
            images={c: f"{file}_isovox.nii[.gz]" for c, file in _SHIFTS_CHANNELS.items()},
            labels={"lesion": "gt/{subject}_gt_isovox.nii[.gz]"},
            split=split,
        )
        for folder, split in (("train", "train"), ("dev_in|eval_in|dev_out", "test"))
    ),
)
