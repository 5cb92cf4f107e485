"""Multiple sclerosis and white-matter hyperintensities."""

from nnunet_transfer.conversion.description import LESION, DatasetDescription, LabelRule, Layout

_LESION_SETS = {"lesion": LESION}

MSLESSEG = DatasetDescription(
    name="mslesseg",
    title="MSLesSeg (ICPR 2024): MS lesions in MNI space, up to four time points per patient",
    folder_name="MSLesSeg",
    licence="CC BY 4.0",
    citation="Guarnera F et al., Scientific Data 2025;12:920, doi 10.1038/s41597-025-05250-y",
    request="https://doi.org/10.6084/m9.figshare.27919209",
    label_sets=_LESION_SETS,
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

_MSSEG_RATERS = "{rater:Consensus|ManualSegmentation_[0-9]+}.nii[.gz]"
_MSSEG_CHANNELS = {"T1": "T1", "FLAIR": "FLAIR", "T2": "T2", "PD": "DP", "T1-Gd": "GADO"}

MSSEG2016 = DatasetDescription(
    name="msseg2016",
    title="MSSEG 2016: MS lesions, seven raters and their consensus (15 for training, 38 for testing)",
    folder_name="MSSEG2016",
    licence="data use agreement of the challenge (OFSEP, Shanoir)",
    citation="Commowick O et al., NeuroImage 2021;244:118589, doi 10.1016/j.neuroimage.2021.118589",
    request="https://shanoir.irisa.fr (study MSSEG 2016)",
    label_sets=_LESION_SETS,
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

_ISBI_CHANNELS = {"T1": "mprage", "FLAIR": "flair", "T2": "t2", "PD": "pd"}

ISBI2015 = DatasetDescription(
    name="isbi2015",
    title="ISBI 2015 longitudinal MS lesions: 21 scans of 5 patients, two raters",
    folder_name="ISBI2015",
    licence="research only, registration needed",
    citation="Carass A et al., NeuroImage 2017;148:77-102, doi 10.1016/j.neuroimage.2016.12.064",
    request="https://smart-stats-tools.org/lesion-challenge-2015",
    label_sets=_LESION_SETS,
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

_LJUBLJANA_CHANNELS = {"T1": "T1W", "FLAIR": "FLAIR", "T2": "T2W", "T1-Gd": "T1WKS"}

LJUBLJANA = DatasetDescription(
    name="ljubljana",
    title="3D-MR-MS of Ljubljana: 30 patients, consensus of three raters",
    folder_name="LjubljanaMS",
    licence="CC BY",
    citation="Lesjak Z et al., Neuroinformatics 2018;16:51-63, doi 10.1007/s12021-017-9348-7",
    request="https://github.com/muschellij2/open_ms_data",
    label_sets=_LESION_SETS,
    # the raw images lie each in their own space, the masks in that of FLAIR
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

_WMH_SITE = "{site:Utrecht|Singapore|Amsterdam(?:/[A-Za-z][^/]*)?}"

WMH2017 = DatasetDescription(
    name="wmh2017",
    title="WMH challenge 2017: white-matter hyperintensities (60 for training, 110 for testing)",
    folder_name="WMH2017",
    licence="terms on the data set's page",
    citation="Kuijf HJ et al., IEEE Trans Med Imaging 2019;38:2556-2568, doi 10.1109/TMI.2019.2905770",
    request="https://doi.org/10.34894/AECRSD",
    # other pathology is not evaluated
    label_sets={"lesion": LabelRule({"lesion": 1}, ignore=(2,))},
    case="{site}_{subject}",  # the sites number their patients each from the start
    subject="{site}_{subject}",
    layouts=tuple(
        Layout(
            prefix=f"{folder}/{_WMH_SITE}/{{subject}}/",
            images={"T1": "pre/T1.nii[.gz]", "FLAIR": "pre/FLAIR.nii[.gz]"},
            labels={"lesion": "wmh.nii[.gz]"},
            split=split,
        )
        for folder, split in (("training", "train"), ("test", "test"))
    ),
)

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
    label_sets=_LESION_SETS,
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
