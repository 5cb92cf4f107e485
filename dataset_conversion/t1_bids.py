"""T1 images with BIDS or IXI names, without masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from nnunet_transfer.conversion.bids import BidsName, Exclusions, parse_name, why_not_raw_magnitude
from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.conversion.participants import ACCESSION, CLASS_OPTIONS, with_classes
from nnunet_transfer.conversion.tree import list_tree, summarise_tree
from nnunet_transfer.errors import DataError
from nnunet_transfer.words import counted

_ENDING = re.compile(r"\.(nii(\.gz)?|mgz|mgh)$", re.IGNORECASE)
#: IXI: number, hospital (Guys, HH, IOP), scan
_IXI = re.compile(r"(IXI\d+)-([A-Za-z]+)-\d+-T1")


def _find_bids(request: Request) -> Iterator[Case]:
    tree = list_tree(request.root)
    exclusions = Exclusions(request.root, tree)
    reasons = {path: _why_left_out(path, exclusions) for path in tree}
    cases = [_case(request.root, path) for path in tree if not reasons[path]]
    if not cases:
        if derived := Counter(reasons[path] for path in tree if _is_t1(path)):
            listed = ", ".join(f"{reason} {count}" for reason, count in derived.most_common(3))
            raise DataError(
                f"{request.root} holds no raw T1 image: {counted(derived.total(), 'other')} left out ({listed}); to take "
                "such images all the same, take t1_folder"
            )
        raise DataError(
            f"{request.root} holds no T1 image with a BIDS name: looked for sub-*[_ses-*]_T1w.nii.gz and IXI*-T1.nii.gz; "
            f"found {len(tree)} files such as {summarise_tree(tree)}; for other names take t1_folder"
        )
    yield from with_classes(request, cases)


def _is_t1(path: str) -> bool:
    """Whether a file's name is that of a T1 image, raw or not."""
    stem = _ENDING.sub("", file := path.split("/")[-1])
    name = parse_name(stem)
    return stem != file and bool(_IXI.fullmatch(stem) or (name and name.suffix == "T1w"))


def _why_left_out(path: str, exclusions: Exclusions) -> str:
    """Return why a file is not a case; empty if it is."""
    file = path.split("/")[-1]
    if not _ENDING.search(file):
        return "not NIfTI or MGH"
    stem = _ENDING.sub("", file)
    name = parse_name(stem)
    if _IXI.fullmatch(stem):
        return exclusions.reason(path)
    if name is None:
        return "no BIDS name"
    if name.suffix != "T1w":
        return f"not T1w ({name.suffix})"
    return exclusions.reason(path) or why_not_raw_magnitude(name)


def _case(root: Path, path: str) -> Case:
    *folders, file = path.split("/")
    stem = _ENDING.sub("", file)
    if match := _IXI.fullmatch(stem):
        return Case(case_name(match[1], match[2]), {"T1": root / path}, subject=match[1], site=match[2])
    name = parse_name(stem) or BidsName({}, "")
    # in a tree with many data sets, each data set has its own sub-01
    site = next((folder for folder in folders if ACCESSION.fullmatch(folder)), "")
    subject, session = name.part("sub"), name.part("ses")
    others = "_".join(name.part(entity) for entity in name.entities if entity not in ("sub", "ses"))
    return Case(
        case_name(site, subject, session, others),
        {"T1": root / path},
        subject=case_name(site, subject),
        session=session,
        site=site,
    )


def _reasons(request: Request) -> Callable[[str], str]:
    exclusions = Exclusions(request.root, list_tree(request.root))
    # files that could be cases but aren't have no class
    return lambda path: _why_left_out(path, exclusions) or "class unknown"


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
    why_left_out=_reasons,
    known_options=CLASS_OPTIONS,
)
