"""T1 images with BIDS names or those of IXI, without masks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from nnunet_transfer.conversion.case_search import case_name
from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription, Request
from nnunet_transfer.conversion.patterns import list_tree, summarise_tree
from nnunet_transfer.dataset_conversion._participants import ACCESSION, CLASS_OPTIONS, with_classes
from nnunet_transfer.errors import DataError

_ENDING = re.compile(r"\.(nii(\.gz)?|mgz|mgh)$")

#: BIDS: entities of an image; OASIS-3 and OpenMind name files so, whatever their folders are called
_BIDS = re.compile(r"(sub-[A-Za-z0-9]+)(?:_(ses-[A-Za-z0-9]+))?((?:_[a-z]+-[A-Za-z0-9]+)*)_T1w")

#: IXI: number, hospital (Guys, HH, IOP), scan
_IXI = re.compile(r"(IXI\d+)-([A-Za-z]+)-\d+-T1")


def _find_bids(request: Request) -> Iterator[Case]:
    tree = list_tree(request.root)
    cases = [case for path in tree if (case := _bids_case(request.root, path))]
    if not cases:
        raise DataError(
            f"{request.root} holds no T1 image with a BIDS name: looked for sub-*[_ses-*]_T1w.nii.gz and IXI*-T1.nii.gz; "
            f"found {len(tree)} files such as {summarise_tree(tree)}; for other names take t1_folder"
        )
    yield from with_classes(request, cases)


def _bids_case(root: Path, path: str) -> Case | None:
    *folders, file = path.split("/")
    ending = _ENDING.search(file)
    if not ending or "derivatives" in folders:
        return None
    stem = file[: ending.start()]
    if match := _BIDS.fullmatch(stem):
        subject, session, others = match[1], match[2] or "", match[3]
        # of one tree with many data sets, each has its own sub-01
        site = next((folder for folder in folders if ACCESSION.fullmatch(folder)), "")
        name = case_name(site, subject, session, others.strip("_"))
    elif match := _IXI.fullmatch(stem):
        subject, site, session = match[1], match[2], ""
        name = case_name(subject, site)
    else:
        return None
    whole = case_name(site if ACCESSION.fullmatch(site) else "", subject)
    return Case(name, {"T1": root / path}, subject=whole, session=session, site=site)


T1_BIDS = DatasetDescription(
    name="t1_bids",
    title="T1 images of a BIDS-like tree, such as OASIS-3, OpenMind or IXI, without masks",
    folder_name="T1",
    licence="that of the data set",
    citation="of BIDS: Gorgolewski KJ et al., Scientific Data 2016;3:160044, doi 10.1038/sdata.2016.44",
    request="https://brain-development.org/ixi-dataset, https://sites.wustl.edu/oasisbrains, "
    "https://huggingface.co/datasets/AnonRes/OpenMind",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_bids,
    known_options=CLASS_OPTIONS,
)
