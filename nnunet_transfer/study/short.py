"""Short study files: from the name of a target and of a source, and the smoke run of a study."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nnunet_transfer.errors import SettingsError
from nnunet_transfer.files import write_text
from nnunet_transfer.study.description import Study
from nnunet_transfer.study.document import read_document
from nnunet_transfer.study.gpus import visible_gpus
from nnunet_transfer.study.validation import check_schema, unknown

FIRST_ID = 101
#: beginning of a source's name -> the profile with its architecture
_PROFILE_OF = {"openmind": "resenc_l", "ssl3d": "resenc_l"}
#: beginning of a converter's name -> the lesion protocol that the field scores it by
_PROTOCOL_OF = {
    "atlas": "atlas_r2",
    "isbi2015": "isbi2015",
    "ljubljana": "msseg2016",
    "mslesseg": "msseg2016",
    "msseg2016": "msseg2016",
    "shifts_ms": "shifts_ms",
    "wmh2017": "wmh2017",
}
#: of a smoke run: epochs and iterations of every training, and how many folds and seeds
SMOKE_TRAINING = {"epochs": 1, "iterations": 5}
SMOKE_FOLDS, SMOKE_SEEDS = 2, 1
SMOKE_ENDING = ".smoke.yaml"


def write_short_study(
    path: Path, targets: Sequence[str], sources: Sequence[str], *, profile: str | None = None
) -> None:
    """Write the file of a study that fine-tunes published sources on converted targets, next to training from scratch.

    Parameters
    ----------
    targets : `<converter>=<folder of the data>`, one per target
    sources : names in the catalogue
    profile : architecture; by default that of the sources

    Raises
    ------
    SettingsError
        If a name is unknown, the sources need different architectures, or there is a file already.
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
    names = [re.sub(r"\W", "_", Path(converter).stem) for converter, _ in pairs]
    if len(set(names)) < len(names):
        raise SettingsError(f"--target: {', '.join(names)} holds a converter twice; describe that study in a full file")
    for source in sources:
        if source not in CATALOGUE:
            raise SettingsError(f"--source {unknown(source, CATALOGUE)}; see `nnunet_transfer sources fetch`")
    lines = [
        f"name: {re.sub(r'[^A-Za-z0-9_]', '_', path.stem)}",
        f"profile: {profile or _profile(sources)}",
        f"datasets: {_flow({n: _dataset(FIRST_ID + i, *pair) for i, (n, pair) in enumerate(zip(names, pairs, strict=True))})}",
        *([f"sources: {_flow({name: {'fetch': name} for name in sources})}"] if sources else []),
        f"targets: {_flow({name: _target(name, converter) for name, (converter, _) in zip(names, pairs, strict=True)})}",
        # output layers fitted before the first step: what keeps what a source knows where cases are few
        "recipes: [fitted]",
    ]
    write_text(path, "\n".join(lines) + "\n")


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
    """Write, beside a study's file, one that runs all its steps with trainings of five iterations; return its path.

    It works in the folder of the study, so that the long run finds data converted and preprocessed. Trainings have other
    names, and the report is written again by the long run.
    """
    document = read_document(study.file)
    content = dict(document.content)
    content["folder"] = str(study.folder)
    content["training"] = dict(SMOKE_TRAINING)
    content["seeds"] = list(content.get("seeds", [0]))[:SMOKE_SEEDS]
    content["sources"] = {
        name: {**source, **SMOKE_TRAINING} if "pretrain" in source else source
        for name, source in content.get("sources", {}).items()
    }
    content["targets"] = {
        name: {**target, "folds": list(study.targets[name].folds)[:SMOKE_FOLDS]}
        for name, target in content["targets"].items()
    }
    comparison = dict(content.get("comparison", {}))
    comparison["note"] = "A smoke run: networks of five iterations show that every step works, and nothing else."
    content["comparison"] = comparison
    if study.device == "cuda" and not visible_gpus():
        content["device"] = "cpu"
    path = study.file.with_name(study.file.stem + SMOKE_ENDING)
    # the ending of the file is ours, so that an older one may be replaced
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    check_schema(read_document(path))
    return path
