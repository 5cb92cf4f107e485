"""Short study files from the names of targets and sources, and smoke runs of studies."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from nnunet_transfer.conversion.names import transliterated
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import write_text
from nnunet_transfer.gpus import visible_gpus
from nnunet_transfer.naming import NNUNET_EPOCHS
from nnunet_transfer.study.description import Source, Study
from nnunet_transfer.study.document import read_document
from nnunet_transfer.study.validation import check_schema, unknown

FIRST_ID = 101
#: beginning of a source's name -> the profile with its architecture
_PROFILE_OF = {"openmind": "resenc_l", "ssl3d": "resenc_l"}
#: beginning of a converter's name -> the usual lesion protocol of the data set
_PROTOCOL_OF = {
    "atlas": "atlas_r2",
    "isbi2015": "isbi2015",
    "ljubljana": "msseg2016",
    "mslesseg": "msseg2016",
    "msseg2016": "msseg2016",
    "shifts_ms": "shifts_ms",
    "wmh2017": "wmh2017",
}
#: epochs and iterations of every training in a smoke run, and the number of folds and seeds
SMOKE_TRAINING = {"epochs": 1, "iterations": 5}
SMOKE_FOLDS, SMOKE_SEEDS = 2, 1
#: cases of each converted data set: enough for folds and classes
SMOKE_CASES = 20
#: batch size without a GPU
SMOKE_BATCH = 2
SMOKE = "smoke"
#: characters of a name, as in the schema
LONGEST_NAME = 60


def write_short_study(
    path: Path, targets: Sequence[str], sources: Sequence[str], *, profile: str | None = None
) -> None:
    """Write the file of a study that fine-tunes published sources on converted targets and compares them with scratch.

    Parameters
    ----------
    targets : one `CONVERTER=FOLDER` per target; relative paths start in the working folder
    sources : names in the catalogue
    profile : architecture; default: that of the sources

    Raises
    ------
    SettingsError
        If a name is unknown, the sources need different architectures, or the file exists.
    """
    from nnunet_transfer.checkpoints.catalogue import CATALOGUE
    from nnunet_transfer.conversion.catalogue import get_description

    if path.exists():
        raise SettingsError(f"{path} exists; remove it or choose another name")
    pairs = [target.partition("=")[::2] for target in targets]
    for target, (converter, folder) in zip(targets, pairs, strict=True):
        if not converter or not folder:
            raise SettingsError(f"--target {target}: give a converter and a folder, such as atlas_r2=/data/ATLAS_2")
        get_description(converter)
    names = [_entry_name(Path(converter).stem, "data") for converter, _ in pairs]
    pairs = [(_seen_from(path, c) if c.endswith(".py") else c, _seen_from(path, folder)) for c, folder in pairs]
    if len(set(names)) < len(names):
        raise SettingsError(f"--target: {', '.join(names)} holds a converter twice; describe that study in a full file")
    for source in sources:
        if source not in CATALOGUE:
            raise SettingsError(f"--source {unknown(source, CATALOGUE)}; see `nnunet_transfer sources fetch`")
    lines = [
        yaml.safe_dump({"name": _entry_name(path.stem, "study")}).strip(),
        f"profile: {profile or _profile(sources)}",
        f"datasets: {_flow({n: _dataset(FIRST_ID + i, *pair) for i, (n, pair) in enumerate(zip(names, pairs, strict=True))})}",
        *([f"sources: {_flow({name: {'fetch': name} for name in sources})}"] if sources else []),
        f"targets: {_flow({name: _target(name, converter) for name, (converter, _) in zip(names, pairs, strict=True)})}",
        # fitting the output layers before the first step preserves what a source has learnt if there are few cases
        "recipes: [fitted]",
    ]
    write_text(path, "\n".join(lines) + "\n")


def _entry_name(text: str, prefix: str) -> str:
    """Return a name that study files accept; one that doesn't start with a letter gets a prefix."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", transliterated(text)).strip("_")
    return (name if name[:1].isalpha() else f"{prefix}_{name}".strip("_"))[:LONGEST_NAME]


def _seen_from(file: Path, path: str) -> str:
    """Return a path that was given relative to the working folder as it has to stand in a file, relative to that."""
    return path if os.path.isabs(path) or path.startswith(("~", "$")) else os.path.relpath(path, file.parent)


def _dataset(number: int, converter: str, folder: str) -> dict[str, Any]:
    return {"id": number, "converter": converter, "path": folder}


def _target(name: str, converter: str) -> dict[str, Any]:
    protocol = next((p for start, p in _PROTOCOL_OF.items() if converter.startswith(start)), None)
    return {"dataset": name, **({"protocols": [protocol]} if protocol else {})}


def _flow(content: Mapping[str, Any]) -> str:
    """Return YAML in one line."""
    text = yaml.safe_dump(dict(content), default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.strip()


def _profile(sources: Sequence[str]) -> str:
    found: dict[str, str] = {}
    for source in sources:
        depth = re.search(r"resnet(18|34|50)", source)
        known = next((profile for start, profile in _PROFILE_OF.items() if source.startswith(start)), None)
        if depth and not source.startswith("medicalnet"):
            known = f"resnet{depth[1]}"
        if known is None:
            raise SettingsError(f"--source {source} has an architecture of its own; name one with --profile")
        found[known] = source
    if len(found) > 1:
        raise SettingsError(f"--source: {' and '.join(found.values())} differ in architecture; one study has one")
    return next(iter(found), "resnet18")


def write_smoke_study(study: Study) -> Path:
    """Write a variant of a study file that runs all steps within minutes; return its path.

    Trainings have one or few epochs of five iterations, converted data sets only their first cases, because validation of
    hundreds of cases would take hours. Data sets in nnU-Net's raw folder are used completely. All output goes to a subfolder
    of the study's folder.
    """
    document = read_document(study.file)
    content = dict(document.content)
    folder = study.folder / SMOKE
    # relative, as the folders above may have a $, which begins a variable in the file
    content["folder"] = os.path.relpath(folder, study.file.parent)
    content.pop("folders", None)
    if study.device == "cuda" and not visible_gpus():
        content["device"] = "cpu"
    content["datasets"] = {name: _small(dataset, content) for name, dataset in content["datasets"].items()}
    if "cpu" in (study.device, content.get("device")):
        # on a GPU, keep the batch size of the full run, so that the smoke run tests whether it fits
        for part in (content, *content["datasets"].values()):
            if part is content or "batch_size" in part.get("plans", {}):
                part["plans"] = _small_batch(part.get("plans", {}))
    short = _shorten_trainings(content)
    content["seeds"] = list(content.get("seeds", [0]))[:SMOKE_SEEDS]
    lengths = _short_pretrainings(study.sources)
    content["sources"] = {
        name: {**source, **SMOKE_TRAINING, "epochs": lengths[name]} if "pretrain" in source else source
        for name, source in content.get("sources", {}).items()
    }
    content["targets"] = {
        name: {**target, "folds": list(study.targets[name].folds)[:SMOKE_FOLDS]}
        for name, target in content["targets"].items()
    }
    comparison = dict(content.get("comparison", {}))
    if "baseline" in comparison:
        comparison["baseline"] = _short_baseline(study, short)
    comparison["note"] = "A smoke run: networks of a few iterations show that every step works, and nothing else."
    content["comparison"] = comparison
    path = study.file.with_name(f"{study.file.stem}.{SMOKE}.yaml")
    # the file ending is reserved for this package, so an older file may be replaced
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    check_schema(read_document(path))
    _link_raw(study, folder / "nnUNet_raw")
    return path


def _shorten_trainings(content: dict[str, Any]) -> Mapping[int, int]:
    """Give every length of training 1, 2, 3, ... epochs, in the order of the lengths; return length -> number of epochs."""
    arms = content.get("arms", ())
    usual = content.get("training", {}).get("epochs", NNUNET_EPOCHS)
    own = [set(arm.get("epochs", ())) for arm in arms if not isinstance(arm, str)]
    short = {epochs: i for i, epochs in enumerate(sorted({usual}.union(*own)), SMOKE_TRAINING["epochs"])}
    content["training"] = {**content.get("training", {}), **SMOKE_TRAINING, "epochs": short[usual]}
    if arms:
        content["arms"] = [
            arm if isinstance(arm, str) or "epochs" not in arm else {**arm, "epochs": [short[n] for n in arm["epochs"]]}
            for arm in arms
        ]
    return short


def _short_baseline(study: Study, short: Mapping[int, int]) -> str:
    """Return the baseline of a smoke run, whose arms are named after other lengths and perhaps another seed."""
    wanted: str = study.comparison["baseline"]
    arm = next((arm for arm in study.arms if wanted in (arm.name, arm.unseeded)), None)
    if arm is None:  # a source, or a name without suffixes
        return wanted
    epochs = short[arm.trainer.epochs or NNUNET_EPOCHS]
    trainer = replace(arm.trainer, epochs=epochs, iterations=SMOKE_TRAINING["iterations"], seed=None)
    return replace(arm, trainer=trainer).unseeded


def _short_pretrainings(sources: Mapping[str, Source]) -> dict[str, int]:
    """Return source -> epochs: 1, or 1, 2, 3, ... for sources that differ in length alone, in the order of their lengths."""
    alike: dict[Any, list[tuple[int, str]]] = {}
    for name, source in sources.items():
        if source.trainer:
            trainer = replace(source.trainer, epochs=None, iterations=None)
            key = (source.dataset, trainer, source.configuration, source.fold)
            alike.setdefault(key, []).append((source.trainer.total_iterations, name))
    return {name: i for own in alike.values() for i, (_, name) in enumerate(sorted(own), SMOKE_TRAINING["epochs"])}


def _small(dataset: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data set limited to the cases of a smoke run, or to as many as training subsets need."""
    if not dataset.get("converter"):
        return dict(dataset)
    asked = [*content.get("cases", []), *(source.get("cases", 0) for source in content.get("sources", {}).values())]
    # at least half of the cases remain for training
    limit = max(SMOKE_CASES, *(2 * number for number in asked if isinstance(number, int)), 0)
    options = dict(dataset.get("options", {}))
    return {**dataset, "options": {**options, "limit": min(limit, options.get("limit", limit))}}


def _small_batch(plans: Mapping[str, Any]) -> dict[str, Any]:
    return {**plans, "batch_size": min(SMOKE_BATCH, plans.get("batch_size", SMOKE_BATCH))}


def _link_raw(study: Study, raw: Path) -> None:
    """Link the data sets in nnU-Net's raw folder to the raw folder of the smoke run, as they are now."""
    for dataset in study.datasets.values():
        if dataset.converter or dataset.synthetic:
            continue
        pattern = f"Dataset{dataset.number:03d}_*"
        for link in raw.glob(pattern):
            if link.is_symlink():  # perhaps to where the data were in an earlier smoke run
                link.unlink()
        for found in study.folders["nnUNet_raw"].glob(pattern):
            raw.mkdir(parents=True, exist_ok=True)
            if not (raw / found.name).exists():
                (raw / found.name).symlink_to(found)
