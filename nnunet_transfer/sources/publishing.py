"""A source as a folder to share: its card, its weights and a README that Hugging Face shows as a model card. No torch.

    README.md            model card: head with licence and tags, then what it is, how to use it, licence, citation
    LICENSE              the licence's text, or its name
    source.json          the source's card, which `sources add` reads back
    weights.safetensors  the weights, as in the registry
    SHA256SUMS           checksums of both, for `sha256sum -c`

The layout of the head: https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import SourceError, one_line
from nnunet_transfer.files import atomic_folder, holds_nothing, read_text, sha256_of, write_text
from nnunet_transfer.sources.card import CARD_FILE, SourceCard
from nnunet_transfer.sources.learning import learning_on
from nnunet_transfer.sources.registry import WEIGHTS_FILE, load_source
from nnunet_transfer.sources.terms import licence_identifier, licence_note
from nnunet_transfer.subjects import DONORS
from nnunet_transfer.words import counted, shortened

README_FILE = "README.md"
LICENCE_FILE = "LICENSE"
CHECKSUMS_FILE = "SHA256SUMS"
#: all that a publication consists of
_FILES = {README_FILE, LICENCE_FILE, CARD_FILE, WEIGHTS_FILE, CHECKSUMS_FILE}
#: maximum size of a licence text in bytes
MAX_LICENCE = 1 << 20
_OWN_CLASSES = "nnunet_transfer."
_PIPELINES = {
    "segmentation": "image-segmentation",
    "classification": "image-classification",
    "self_supervised": "image-feature-extraction",
}
#: number of names shown of a long list
_SHOWN = 20


def publish_source(
    name: str,
    folder: Path,
    *,
    licence: str = "",
    licence_file: Path | None = None,
    leave_out_cases: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a source to a folder that is ready for upload, and that `sources add` reads back.

    Parameters
    ----------
    name : name of a source in the registry
    folder : new or empty folder, or with `overwrite`, a folder written by this function
    licence : licence of the weights; replaces the one in the card
    licence_file : file with the licence text
    leave_out_cases : leave out the identifiers of training cases and lesion donors

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SourceError
        If the source doesn't exist, its weights have changed, no licence is known, or the folder contains other files.
    """
    source = load_source(name)
    source.verify()
    card = replace(source.card, licence=licence or source.card.licence)
    if not card.licence.strip():
        raise SourceError(f"source {card.name} states no licence; say with --licence under which you may share it")
    if leave_out_cases:
        extra = {key: value for key, value in card.extra.items() if key != DONORS}
        card = replace(card, trained_on_cases=(), extra=extra)
    text = read_text(licence_file, limit=MAX_LICENCE) if licence_file else _licence_text(card)
    empty = folder.is_dir() and holds_nothing(folder)
    if folder.exists() and not empty:
        _check_replaceable(folder, overwrite)
    with atomic_folder(folder, overwrite=empty or overwrite) as temporary:
        shutil.copyfile(source.weights, temporary / WEIGHTS_FILE)
        card.write(temporary)
        write_text(temporary / README_FILE, f"{_head(card)}\n{model_card(card)}")
        write_text(temporary / LICENCE_FILE, text)
        sums = {WEIGHTS_FILE: card.sha256, CARD_FILE: sha256_of(temporary / CARD_FILE)}
        write_text(temporary / CHECKSUMS_FILE, "".join(f"{digest}  {file}\n" for file, digest in sums.items()))
    return folder


def _check_replaceable(folder: Path, overwrite: bool) -> None:
    """Refuse to replace a folder that holds anything but a publication, such as a repository of Git or a registered source."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if CARD_FILE not in names or not overwrite:
        raise SourceError(
            f"{folder} exists and is not empty; give another folder{', or --overwrite' if CARD_FILE in names else ''}"
        )
    if others := sorted(names - _FILES):
        raise SourceError(f"{folder} also holds {shortened(others, 3)}, which would be lost; give another folder")
    if names != _FILES:
        raise SourceError(f"{folder} holds a source that wasn't published there; give another folder")


def model_card(card: SourceCard) -> str:
    """Return a source's card as a page of Markdown."""
    own = str(card.architecture["network_class_name"])
    configuration = "2d" if card.dimensions == 2 else "3d_fullres"
    package = ""
    if own.startswith(_OWN_CLASSES):
        package = (
            "\nThe network's class is nnunet_transfer's: what is trained from it predicts where that is installed.\n"
        )
    return f"""# {_plain(card.name)}

A network to start nnU-Net trainings from, pre-trained by {_plain(card.task).replace("_", "-")} on {_plain(card.domain)} images.

| | |
|---|---|
{_table(_facts(card))}
## Use

```bash
nnunet_transfer sources add hf://OWNER/REPOSITORY --name {card.name}
nnunet_transfer plan -d DATASET_ID --source {card.name} -c {configuration}
nnUNetv2_preprocess -d DATASET_ID -plans_name nnUNetPlans_from_{card.name} -c {configuration}
nnUNetv2_train DATASET_ID {configuration} 0 -p nnUNetPlans_from_{card.name} -tr nnUNetTrainerTransfer
```
{package}
Scores on data that it was trained on, or on data of the same people, measure memory: `sources list` names the data
sets on your machine for which this may be so.
{_notes(card)}
## Licence

{_plain(licence_note(card.licence))}.

## Citation

{_plain(card.citation) or "None is stated."}
"""


def _facts(card: SourceCard) -> dict[str, str]:
    kwargs = card.architecture["arch_kwargs"]
    learning = learning_on(card)
    cases = (
        f" ({counted(len(card.trained_on_cases), 'case')}, listed in `{CARD_FILE}`)" if card.trained_on_cases else ""
    )
    network = str(card.architecture["network_class_name"]).rsplit(".", 1)[-1]
    stages = f", {kwargs['n_stages']} stages" if "n_stages" in kwargs else ""
    facts = {
        "task": card.task,
        "domain": card.domain,
        "network": f"{network}, {card.dimensions}D{stages}; {card.parts.replace('+', ' and ')}",
        "input": f"{counted(card.input_channels, 'channel')} {_some(card.channel_names)}",
        "normalisation": _some(dict.fromkeys(card.normalization_schemes)),
        "spacing (mm)": " × ".join(f"{value:g}" for value in card.spacing),
        "patch size": " × ".join(map(str, card.patch_size)),
        "outputs": "; ".join(map(_some, card.outputs)),
        "learnt": learning.sentence() if learning else "",
        "trained on": (_some(card.trained_on) or "unknown") + cases,
        "lesion donors": _some(_texts(card.extra.get(DONORS))),
        "came from": _some(_texts([card.extra.get("address") or card.extra.get("file")])),
        "format": card.format,
        f"sha256 of {WEIGHTS_FILE}": card.sha256,
        "made with": card.created_with,
    }
    return {name: value for name, value in facts.items() if value.strip()}


def _table(facts: Mapping[str, str]) -> str:
    return "".join(f"| {name} | {_plain(value)} |\n" for name, value in facts.items())


def _notes(card: SourceCard) -> str:
    notes = _texts(card.extra.get("notes"))
    return "\n## Notes\n\n" + "".join(f"- {_plain(note)}\n" for note in notes) if notes else ""


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list | tuple) else []


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else "")


def _plain(text: str) -> str:
    # a card may come from anyone: its lines must not become a cell, heading or head
    return one_line(text, 10_000).replace("|", "\\|").replace("<", "&lt;")


def _head(card: SourceCard) -> str:
    identifier = licence_identifier(card.licence)
    lines = [f"license: {identifier}"]
    if identifier == "other":
        # the unchanged name, which this package reads back
        lines += [f"license_name: {_quoted(card.licence)}", f"license_link: {LICENCE_FILE}"]
    lines += [f"library_name: {_quoted('nnunet_transfer')}", f"pipeline_tag: {_PIPELINES[card.task]}", "tags:"]
    lines += [f"- {_quoted(tag)}" for tag in ("nnU-Net", "transfer-learning", "medical", card.task, card.domain)]
    return "\n".join(("---", *lines, "---", ""))


def _quoted(text: str) -> str:
    # JSON strings are valid YAML
    return json.dumps(one_line(text, 200), ensure_ascii=False)


def _licence_text(card: SourceCard) -> str:
    return f"The weights in this folder are licensed under: {one_line(card.licence, 10_000)}\n"
