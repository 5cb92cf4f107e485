"""ARC, the Aphasia Recovery Cohort: chronic stroke."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnunet_transfer.conversion.description import LESION, Case, DatasetDescription, Layout, Request
from nnunet_transfer.conversion.names import case_name
from nnunet_transfer.conversion.patterns import Pattern
from nnunet_transfer.conversion.tree import list_tree, summarise_tree
from nnunet_transfer.errors import DataError

#: a mask is named after the T2 image that it was drawn on
_ANAT = "{subject:sub-[A-Za-z0-9]+}/ses-{session:[0-9]+}/anat/{subject}_ses-{session}_{scan}"
_MASK = f"derivatives/lesion_masks/{_ANAT}_T2w_desc-lesion_mask.nii[.gz]"
_CHANNELS = {"T2": f"{_ANAT}_T2w.nii[.gz]", "T1": f"{_ANAT}_T1w.nii[.gz]", "FLAIR": f"{_ANAT}_FLAIR.nii[.gz]"}


def _find_arc(request: Request) -> Iterator[Case]:
    """Yield one case per mask: most sessions have no mask, and other images of a session are other scans."""
    tree = list_tree(request.root)
    pattern = Pattern(_MASK)
    masks = [(path, match) for path in tree if (match := pattern.match(path))]
    if not masks:
        raise DataError(
            f"{request.root} holds no case of arc: looked for {pattern}; "
            f"found {len(tree)} files such as {summarise_tree(tree)}"
        )
    for path, (above, fields) in masks:
        subject, session = fields["subject"], fields["session"]
        reference = f"{above}{subject}/ses-{session}/anat/{subject}_ses-{session}_{fields['scan']}_T2w.nii.gz"
        images = {
            channel: request.root / (reference if channel == "T2" else _scan_of(tree, channel, above, fields))
            for channel in request.channels
        }
        name = case_name(subject, f"ses-{session}")
        yield Case(name, images, ((request.root / path,),), subject=subject, session=session)


def _scan_of(tree: list[str], channel: str, above: str, fields: dict[str, str]) -> Path:
    """Return the image of a channel in a mask's session; if there is none, the expected path."""
    pattern = Pattern(_CHANNELS[channel])
    wanted = {key: fields[key] for key in ("subject", "session")}
    found = [
        path
        for path in tree
        if (match := pattern.match(path)) and match[0] == above and wanted.items() <= match[1].items()
    ]
    suffix = {"T1": "T1w"}.get(channel, channel)
    folder = f"{above}{fields['subject']}/ses-{fields['session']}/anat"
    return Path(found[0] if len(found) == 1 else f"{folder}/*_{suffix}.nii.gz, one of {len(found)}")


ARC = DatasetDescription(
    name="arc",
    title="ARC: T2 with chronic stroke lesions, 228 patients (OpenNeuro ds004884)",
    folder_name="ARC",
    licence="CC0",
    citation="Gibson M et al., Scientific Data 2024;11:981, doi 10.1038/s41597-024-03819-7",
    request="https://openneuro.org/datasets/ds004884, no registration",
    label_sets={"lesion": LESION},
    # for options and messages only; the cases come from _find_arc
    layouts=(Layout(images=_CHANNELS, labels={"lesion": _MASK}),),
    channels=("T2",),
    find_cases=_find_arc,
    hint="the masks are in the space of T2, to which T1 and FLAIR are not registered, and which 25 of 228 sessions lack: "
    "register them yourself, or take --channels T2",
)
