"""Any folder of T1 images, without masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch

from nnunet_transfer.conversion.case_search import NO_SUBJECT
from nnunet_transfer.conversion.description import FOREGROUND, Case, DatasetDescription, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.conversion.participants import CLASS_OPTIONS, with_classes
from nnunet_transfer.conversion.tree import list_tree, summarise_tree
from nnunet_transfer.errors import DataError, SettingsError

_ENDING = re.compile(r"\.(nii(\.gz)?|mgz|mgh)$", re.IGNORECASE)
#: the subject in a path, unless an option says otherwise; after letters alone, a number is part of its name
_SUBJECT = r"(sub-(?:[A-Za-z]+_\d+|[^_/.]+)|IXI\d+|OAS\d+(?:_\d{4})?|(?<!\d)\d{3}_S_\d{4}(?!\d))"


def _find_folder(request: Request) -> Iterator[Case]:
    tree = list_tree(request.root)
    wanted = request.options.get("name", "*")
    volumes = [path for path in tree if _ENDING.search(path) and fnmatch(path.split("/")[-1], wanted)]
    if not volumes:
        raise DataError(
            f"{request.root} holds no volume named {wanted} (.nii, .nii.gz, .mgz); "
            f"found {len(tree)} files such as {summarise_tree(tree)}"
        )
    subject_of = _subject_rule(request.options.get("subject", ""))
    cases = []
    for path in volumes:
        stem = _ENDING.sub("", path)
        name, subject = case_name(*stem.split("/")), case_name(subject_of(stem))
        # a table of participants knows them by the whole name
        notes = () if subject or "class" in request.options else (NO_SUBJECT,)
        cases.append(Case(name, {"T1": request.root / path}, subject=subject or name, notes=notes))
    yield from with_classes(request, cases)


def _reasons(request: Request) -> Callable[[str], str]:
    wanted = request.options.get("name", "*")

    def reason_of(path: str) -> str:
        if not _ENDING.search(path):
            return "not NIfTI or MGH"
        # files that could be cases but aren't have no class
        return "class unknown" if fnmatch(path.split("/")[-1], wanted) else f"not named {wanted}"

    return reason_of


def _subject_rule(text: str) -> Callable[[str], str]:
    """Return the function that extracts the subject from a path without ending."""
    try:
        rule = re.compile(text or _SUBJECT)
    except re.error as error:
        raise SettingsError(f"--option subject={text} is not a regular expression ({error})") from None

    def find(path: str) -> str:
        match = rule.search(path)
        if text and not match:
            raise DataError(f"no subject matches {text} in {path}; correct --option subject")
        return (match[1] if rule.groups else match[0]) if match else ""

    return find


T1_FOLDER = DatasetDescription(
    name="t1_folder",
    title="All T1 volumes below a folder, whatever their names, without masks",
    folder_name="T1",
    licence="that of the data set",
    citation="that of the data set",
    request="your own",
    label_sets={"foreground": FOREGROUND},
    find_cases=_find_folder,
    why_left_out=_reasons,
    known_options=CLASS_OPTIONS
    | {
        "name": "which files, such as name=*T1*.nii.gz",
        "subject": "regular expression whose first group is the subject within the path",
    },
)
