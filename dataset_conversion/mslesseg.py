"""MSLesSeg, MS lesions in MNI space (ICPR 2024)."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, Layout

MSLESSEG = DatasetDescription(
    name="mslesseg",
    title="MSLesSeg (ICPR 2024): MS lesions in MNI space, up to four time points per patient",
    folder_name="MSLesSeg",
    licence="CC BY 4.0",
    citation="Guarnera F et al., Scientific Data 2025;12:920, doi 10.1038/s41597-025-05250-y",
    request="https://doi.org/10.6084/m9.figshare.27919209",
    label_sets={"lesion": LESION},
    case="{subject}_{session}",
    layouts=(
        # T1 is both the first time point and an image
        *(
            Layout(
                prefix=f"{folder}/{{subject:P[0-9]+}}/{{session:T[0-9]+}}/{{subject}}_{{session}}",
                images={c: f"_{c}.nii[.gz]" for c in ("T1", "FLAIR", "T2")},
                labels={"lesion": "_MASK.nii[.gz]"},
                split=folder,
            )
            for folder in ("train", "test")
        ),
        Layout(
            prefix="test/{subject:P[0-9]+}/{subject}",
            images={c: f"_{c}.nii[.gz]" for c in ("T1", "FLAIR", "T2")},
            labels={"lesion": "_MASK.nii[.gz]"},
            split="test",
        ),
    ),
)
