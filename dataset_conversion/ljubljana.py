"""The MS lesions of Ljubljana."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, Layout

_LJUBLJANA_CHANNELS = {"T1": "T1W", "FLAIR": "FLAIR", "T2": "T2W", "T1-Gd": "T1WKS"}

LJUBLJANA = DatasetDescription(
    name="ljubljana",
    title="3D-MR-MS of Ljubljana: 30 patients, consensus of three raters",
    folder_name="LjubljanaMS",
    licence="CC BY",
    citation="Lesjak Z et al., Neuroinformatics 2018;16:51-63, doi 10.1007/s12021-017-9348-7",
    request="https://github.com/muschellij2/open_ms_data",
    label_sets={"lesion": LESION},
    # each raw image is in its own space, the masks are in FLAIR space
    layouts=tuple(
        Layout(
            prefix=f"{folder}{{subject:patient[0-9]+}}/{name}",
            images={c: f"{file}.nii[.gz]" for c, file in _LJUBLJANA_CHANNELS.items()},
            labels={"lesion": "consensus_gt.nii[.gz]"},
        )
        for folder, name in (
            ("cross_sectional/coregistered/", "[{subject}_]"),
            ("cross_sectional/MNI/", "[{subject}_]"),
            ("", "{subject}_"),
        )
    ),
)
