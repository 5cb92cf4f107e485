"""ATLAS, anatomical tracings of lesions after stroke, in its three releases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_transfer.conversion.description import LESION, Case, DatasetDescription, Layout, Request
from nnunet_transfer.conversion.participants import MISSING, plain_session
from nnunet_transfer.errors import DataError
from nnunet_transfer.tables import read_rows

_REQUEST = "https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html"
_BIDS = "{subject}/ses-{session}/anat/{subject}_ses-{session}"
_MASK = "_label-*_desc-T1lesion*_mask.nii[.gz]"
#: unknown chronicities and days after stroke
_UNKNOWN = MISSING | {"0", "0.0", "-4", "-4.0"}


def _site_from_metadata(request: Request, cases: list[Case]) -> list[Case]:
    """Take the site from the table beside the image, because the folder may be a cohort such as SOOP instead of a site."""
    return [_with_metadata(case) for case in cases]


def _with_metadata(case: Case) -> Case:
    image = case.images["T1"]
    if not isinstance(image, Path):
        return case
    path = image.with_name(f"{image.name.split('_space-')[0]}_metadata.csv")
    if not path.is_file():
        return replace(case, notes=(*case.notes, "no metadata: site taken from the folder"))
    try:
        (_, header), *rows = read_rows(path)
    except DataError as error:
        return replace(case, notes=(*case.notes, f"{error}: site taken from the folder"))
    row = _row_of(case.session, [dict(zip(header, cells, strict=False)) for _, cells in rows])
    facts = {"chronicity": row.get("CHRONICITY", ""), "days after stroke": row.get("DAYS_POST_STROKE", "")}
    notes = [f"{name} {value}" for name, value in facts.items() if value.casefold() not in _UNKNOWN]
    site = row.get("SITE", "")
    if site.casefold() in MISSING:
        site, notes = case.site, [*notes, "no site in the metadata: site taken from the folder"]
    return replace(case, site=site, notes=(*case.notes, *notes))


def _row_of(session: str, rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return the row of a session or, if there is none, the first that names no session; empty if there is none either."""
    own = [row for row in rows if plain_session(row.get("SESSION_ID", "")) == plain_session(session)]
    common = [row for row in rows if row.get("SESSION_ID", "").casefold() in MISSING]
    return next(iter([*own, *common]), {})


ATLAS_R1 = DatasetDescription(
    name="atlas_r1",
    title="ATLAS R1.1 and R1.2: T1 with stroke lesions (229 scans of 220 subjects)",
    folder_name="ATLASR1",
    licence="data use agreement: research only, no passing on",
    citation="Liew S-L et al., Scientific Data 2018;5:180011, doi 10.1038/sdata.2018.11",
    request=_REQUEST,
    label_sets={"lesion": LESION},
    case="{site}_{subject}_{session}",
    subject="{site}_{subject}",
    layouts=(
        Layout(
            prefix="{site:[Ss]ite[0-9]+}/{subject}/{session:t[0-9]+}/{subject}",
            images={"T1": "_t1w*_stx.nii[.gz]"},
            labels={"lesion": "_LesionSmooth*_stx.nii[.gz]"},
        ),
        Layout(
            prefix="{site:c[0-9]+}/{subject:c[0-9]+s[0-9]+}{session:t[0-9]+}/{subject}{session}",
            images={"T1": "*_t1w*.nii[.gz]"},
            labels={"lesion": "*_LesionSmooth*.nii[.gz]"},
        ),
    ),
)

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
            prefix=f"{folder}/{{site}}/{_BIDS}_space-MNI152NLin2009aSym",
            images={"T1": "_T1w.nii[.gz]"},
            labels={"lesion": _MASK},
            split=split,
        )
        for folder, split in (("Training", "train"), ("Testing", "test"))
    ),
)

ATLAS_R3 = DatasetDescription(
    name="atlas_r3",
    title="ATLAS R2.1 and R3.0: native-space, skull-stripped T1 with stroke lesions (1453 sessions, 55 sites)",
    folder_name="ATLASR3",
    licence="data use agreement: research only, no passing on",
    citation="Liew S-L et al., Scientific Data 2022;9:320, doi 10.1038/s41597-022-01401-7, and the release's README",
    request="https://github.com/npnl/ATLAS",
    label_sets={"lesion": LESION},
    case="{subject}_ses-{session}",
    layouts=(
        Layout(
            prefix=f"{{site}}/{_BIDS}_space-orig",
            images={"T1": "_desc-brain_T1w.nii[.gz]"},
            labels={"lesion": _MASK},
        ),
    ),
    refine=_site_from_metadata,
)
