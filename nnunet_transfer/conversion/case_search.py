"""Find the cases of a data set from file names alone."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_transfer.conversion.bids import folder_apart
from nnunet_transfer.conversion.description import (
    CONSENSUS_RULES,
    Case,
    DatasetDescription,
    Layout,
    Request,
)
from nnunet_transfer.conversion.names import case_name, safe_names
from nnunet_transfer.conversion.patterns import Pattern
from nnunet_transfer.conversion.record import relative_to
from nnunet_transfer.conversion.tree import (
    PICTURES,
    VOLUMES,
    LeftOut,
    Tree,
    is_image,
    summarise_tree,
    walk_tree,
    without_ending,
)
from nnunet_transfer.errors import DataError, SettingsError, TransferError
from nnunet_transfer.words import counted, shortened

#: in a template of names: an underscore outside a field, and a field
_UNDERSCORE, _FIELD = re.compile(r"_(?![a-z_]*\})"), re.compile(r"\{([a-z_]+)\}")
#: the note of a training case that has no mask
NO_LABEL = "no label found: put into imagesTs"
#: the note of a case whose path doesn't tell the subject
NO_SUBJECT = "no subject recognised: taken for a person of its own (--option subject=REGEX tells who it is)"


@dataclass(frozen=True)
class Problem:
    """A case that can't be converted, and the reason."""

    case: str
    files: tuple[Path, ...]
    reason: str


@dataclass(frozen=True)
class Found:
    """Result of the search.

    Attributes
    ----------
    cases : sorted by name
    problems : cases that can't be converted
    left_out : images below the root that belong to no case, and folders that were not searched
    """

    cases: list[Case]
    problems: list[Problem] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def find_cases(description: DatasetDescription, request: Request) -> Found:
    """Find all cases of a data set below `request.root`.

    Raises
    ------
    SettingsError
        If a channel, label set, rater or option doesn't exist, or a rater must be chosen.
    DataError
        If nothing is found; the message lists the expected and the existing files.
    """
    _check_request(description, request)
    tree = walk_tree(request.root)
    problems: list[Problem] = []
    with _blamed_on(description):
        if description.find_cases:
            cases = list(description.find_cases(request))
        else:
            cases, problems = _match_layouts(description, request, tree)
        if description.refine:
            cases = list(description.refine(request, cases))
    if not cases and not problems:
        raise DataError(f"{request.root} holds no case of {description.name}; is it the right folder?")
    cases, clashes = _unique(cases, request.root)
    problems = sorted([*problems, *clashes], key=lambda problem: problem.case)
    left_out = _left_out(description, request, tree, cases, problems)
    return Found(_with_safe_names(cases), problems, left_out)


@contextlib.contextmanager
def _blamed_on(description: DatasetDescription) -> Iterator[None]:
    """Turn errors of a description's own functions, such as a patient whom a table lacks, into one line."""
    try:
        yield
    except (TransferError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{description.name} can't find its cases ({type(error).__name__}: {error})") from error


def _left_out(
    description: DatasetDescription, request: Request, tree: Tree, cases: Sequence[Case], problems: Sequence[Problem]
) -> list[LeftOut]:
    """Return each image of the tree that belongs to no case, with the reason."""
    taken = {file for case in cases for file in case.files()} | {file for p in problems for file in p.files}
    endings = PICTURES if description.pictures else VOLUMES
    told = description.why_left_out(request) if description.why_left_out else lambda path: ""
    by_layouts = _reasons_of_layouts(description, request)
    found = [item for item in tree.left_out if item.reason != "hidden" or is_image(item.path, endings)]
    found += [
        LeftOut(path, told(path) or by_layouts(path))
        for path in tree.files
        if is_image(path, endings) and request.root / path not in taken
    ]
    return sorted(found, key=lambda item: item.path)


def _reasons_of_layouts(description: DatasetDescription, request: Request) -> Callable[[str], str]:
    """Return a function that explains from the layouts' patterns why a path was not used."""
    channels, label_sets = [], []
    for layout in description.layouts:
        channels += [
            (pattern, "another layout of the data set" if channel in request.channels else f"channel {channel}")
            for channel, pattern in layout.image_patterns().items()
        ]
        for name in layout.labels:
            reason = "another rater or layout" if name == request.label_set else f"label set {name}"
            if pattern := layout.label_pattern(name):
                label_sets.append((pattern, reason))
    above = f"{request.root.as_posix()}/"

    def reason_of(path: str) -> str:
        for pattern, reason in (*channels, *label_sets):
            if pattern.match(path) or pattern.match(above + path):
                return reason
        return folder_apart(path) or f"no rule of {description.name} takes it"

    return reason_of


def _check_request(description: DatasetDescription, request: Request) -> None:
    if not request.root.is_dir():
        raise DataError(f"{request.root} is not a folder; give the folder that holds {description.title}")
    _check_choice(description, "label set", [request.label_set], description.label_sets)
    if not description.pictures:
        _check_choice(description, "channel", request.channels, description.all_channels())
    if twice := [name for name in request.channels if request.channels.count(name) > 1]:
        raise SettingsError(f"channel {twice[0]} is given twice; give each once")
    _check_choice(description, "option", request.options, description.known_options)
    if description.has_raters(request.label_set):
        if not request.rater:
            raise SettingsError(
                f"{description.name} has masks of several raters; choose with --rater: a rater's name, "
                f"{', '.join(CONSENSUS_RULES)}"
            )
        if request.rater in CONSENSUS_RULES and not description.label_sets[request.label_set].binary:
            raise SettingsError(
                f"--rater {request.rater} is for binary masks; label set {request.label_set} has several values, so name "
                "one rater"
            )
    elif request.rater:
        raise SettingsError(
            f"label set {request.label_set} of {description.name} has no raters; leave out --rater {request.rater}"
        )


def _check_choice(description: DatasetDescription, what: str, chosen: Iterable[str], known: Iterable[str]) -> None:
    for name in chosen:
        if name not in known:
            raise SettingsError(f"{description.name} has no {what} {name}; there are: {', '.join(known) or 'none'}")


#: folder above the pattern, fields and their values
_Key = tuple[str, tuple[tuple[str, str], ...]]
#: key -> channel or rater -> files
_Found = dict[_Key, dict[str, list[Path]]]


def _match_layouts(description: DatasetDescription, request: Request, tree: Tree) -> tuple[list[Case], list[Problem]]:
    # use folders above the root only if nothing is found otherwise: the user may have given a folder inside the data set
    for above in ("", f"{request.root.as_posix()}/"):
        files = [(above + path, request.root / path) for path in tree.files]
        cases, problems = _match_splits(description, request, files)
        if cases or problems:
            return cases, problems
    wanted = " or ".join(
        str(pattern)
        for layout in description.layouts
        for channel, pattern in layout.image_patterns().items()
        if channel in request.channels[:1]
    )
    raise DataError(
        f"{request.root} holds no case of {description.name}: looked for {wanted}; "
        f"found {len(tree.files)} files such as {summarise_tree(tree.files)}"
    )


#: path to match against patterns, and the file
_Files = Sequence[tuple[str, Path]]


def _match_splits(description: DatasetDescription, request: Request, files: _Files) -> tuple[list[Case], list[Problem]]:
    """Return the matches of the first of each split's layouts that fits best."""
    cases: list[Case] = []
    problems: list[Problem] = []
    for split in dict.fromkeys(layout.split for layout in description.layouts):
        layouts = [layout for layout in description.layouts if layout.split == split]
        found, wrong = max((_match_layout(description, layout, request, files) for layout in layouts), key=_fit)
        cases += found
        problems += wrong
    return cases, problems


def _fit(matches: tuple[list[Case], list[Problem]]) -> tuple[bool, bool, bool]:
    """Order the matches of alternative layouts: cases with masks, cases, problems, nothing.

    Alternatives may share the pattern of the images or that of the masks, so one file that matches decides nothing.
    """
    cases, problems = matches
    return any(case.masks for case in cases), bool(cases), bool(cases or problems)


def _match_layout(
    description: DatasetDescription, layout: Layout, request: Request, files: _Files
) -> tuple[list[Case], list[Problem]]:
    images: _Found = defaultdict(lambda: defaultdict(list))
    masks: _Found = defaultdict(lambda: defaultdict(list))
    for channel, pattern in layout.image_patterns().items():
        if channel in request.channels:
            for key, _, path in _matches(pattern, files):
                images[key][channel].append(path)
    label_pattern = layout.label_pattern(request.label_set)
    if label_pattern:
        for key, rater, path in _matches(label_pattern, files):
            masks[key][rater].append(path)
    cases, problems = [], []
    for key in sorted(images.keys() | masks.keys()):
        own_images, own_masks, fields = images.get(key, {}), masks.get(key, {}), dict(key[1])
        try:
            cases.append(_make_case(description, layout, request, fields, own_images, own_masks))
        except DataError as error:
            paths = [path for group in (own_images, own_masks) for some in group.values() for path in some]
            problems.append(Problem(_names(description, fields)[0], tuple(paths), str(error)))
    return cases, problems


def _matches(pattern: Pattern, files: _Files) -> Iterator[tuple[_Key, str, Path]]:
    """Yield the key of the case, the rater (empty if there is none) and the path of each matching file."""
    for text, path in files:
        if match := pattern.match(text):
            above, fields = match
            rater = fields.pop("rater", "")
            yield (above, tuple(sorted(fields.items()))), rater, path


def _names(description: DatasetDescription, fields: Mapping[str, str]) -> tuple[str, str]:
    return _filled(description.case, fields), _filled(description.subject, fields)


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """Return a name from a template, without the parts, between underscores, whose fields a layout doesn't have."""
    parts = _UNDERSCORE.split(template)
    return case_name(*(part.format_map(fields) for part in parts if {*_FIELD.findall(part)} <= fields.keys()))


def _make_case(
    description: DatasetDescription,
    layout: Layout,
    request: Request,
    fields: Mapping[str, str],
    images: Mapping[str, Sequence[Path]],
    masks: Mapping[str, Sequence[Path]],
) -> Case:
    for paths in (*images.values(), *masks.values()):
        _refuse_two_endings(paths)
    if not images:
        raise DataError("there is a mask but no image")
    for channel in request.channels:
        paths = images.get(channel, ())
        if not paths:
            raise DataError(f"there is no {channel} image")
        if len(paths) > 1:
            raise DataError(f"there are several {channel} images: {', '.join(p.name for p in paths)}")
    name, subject = _names(description, fields)
    chosen, combine = _choose_raters(masks, request.rater, description.default_rater)
    if not description.label_sets[request.label_set].binary and any(len(paths) > 1 for paths in chosen):
        raise DataError(f"there are several label files: {', '.join(p.name for p in chosen[0])}")
    return Case(
        name=name,
        images={channel: images[channel][0] for channel in request.channels},
        masks=chosen,
        combine=combine,
        subject=subject,
        session=fields.get("session", ""),
        site=fields.get("site", ""),
        rater=request.rater,
        split=layout.split,
    )


def _refuse_two_endings(paths: Sequence[Path]) -> None:
    """Refuse a file that exists both compressed and uncompressed, because either could be out of date."""
    seen: dict[Path, Path] = {}
    for path in paths:
        if (other := seen.setdefault(path.with_name(without_ending(path.name)), path)) != path:
            raise DataError(f"{other.name} and {path.name} are one name with two endings; remove the outdated file")


def _choose_raters(
    masks: Mapping[str, Sequence[Path]], rater: str, consensus: str | None
) -> tuple[tuple[tuple[Path, ...], ...], str]:
    """Return the files of each selected rater and how to combine them; a published consensus is not a rater."""
    if rater in CONSENSUS_RULES:
        no_rater = (consensus or "").casefold()
        return tuple(tuple(masks[name]) for name in sorted(masks) if name.casefold() != no_rater or not name), rater
    if not masks:
        return (), "union"
    same = [name for name in masks if name.casefold() == rater.casefold()]
    chosen = rater if rater in masks else same[0] if len(same) == 1 else None
    if chosen is None:
        raise DataError(f"there is no mask of rater {rater}; there are: {', '.join(sorted(masks))}")
    return (tuple(masks[chosen]),), "union"


def _unique(cases: Sequence[Case], root: Path) -> tuple[list[Case], list[Problem]]:
    """Separate cases with a unique name from the others; `root` is the folder that messages leave out."""
    by_name: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_name[case.name].append(case)
    clashes = [
        Problem(same[0].name, tuple(f for case in same for f in case.files()), _why_same_name(same, root))
        for same in by_name.values()
        if len(same) > 1
    ]
    return [same[0] for same in by_name.values() if len(same) == 1], clashes


def _why_same_name(cases: Sequence[Case], root: Path) -> str:
    try:
        _refuse_two_endings([file for case in cases for file in case.files()])
    except DataError as error:
        return str(error)
    listed = shortened([relative_to(case.files()[0], root) for case in cases], 2)
    return f"{len(cases)} cases have this name: {listed}"


def _with_safe_names(cases: Sequence[Case]) -> list[Case]:
    """Give cases names that nnU-Net accepts, keep the original names, and sort by the new ones."""
    safe = safe_names(case.name for case in cases)
    renamed = [
        case if safe[case.name] == case.name else replace(case, name=safe[case.name], source_name=case.name)
        for case in cases
    ]
    return sorted(renamed, key=lambda case: case.name)


def without_labels(case: Case) -> Case:
    """Return the case as a test case; if it was meant for training, a note states the reason."""
    note = () if case.split == "test" else (NO_LABEL,)
    return replace(case, split="test", notes=(*case.notes, *note))


def with_missing_raters(cases: Sequence[Case]) -> list[Case]:
    """Return the cases; where the masks of fewer raters are combined than elsewhere, a note states their number."""
    most = max((len(case.masks) for case in cases), default=0)
    return [
        replace(case, notes=(*case.notes, f"masks of {len(case.masks)} of {most} raters"))
        if 0 < len(case.masks) < most
        else case
        for case in cases
    ]


def search_warnings(cases: Sequence[Case]) -> list[str]:
    """Return a line each for cases without a label, without a known subject, and without some of the raters."""
    most = max((len(case.masks) for case in cases), default=0)
    found = {
        **{note: [case.name for case in cases if note in case.notes] for note in (NO_LABEL, NO_SUBJECT)},
        f"masks of fewer than {most} raters": [case.name for case in cases if 0 < len(case.masks) < most],
    }
    return [f"{text} in {counted(len(names), 'case')}: {shortened(names, 5)}" for text, names in found.items() if names]
