"""Read a study file into its description; every error states the line."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_transfer.errors import SettingsError, StudyError
from nnunet_transfer.naming import (
    DEFAULT_PRETRAINERS,
    OWN_SCHEDULE,
    PRETRAINERS,
    PRETRAINING_RECIPES,
    SEGMENTATION_PRETRAINER,
    SIMCLR,
    TRANSFER,
    TrainerName,
    parse_trainer_name,
)
from nnunet_transfer.plans import PROFILES
from nnunet_transfer.recipes import DEFAULT_RECIPE, RECIPES
from nnunet_transfer.sources.schema import NAME, NAME_RULE
from nnunet_transfer.study.description import (
    BEST,
    SCRATCH,
    Dataset,
    Resources,
    Source,
    Study,
    StudyArm,
    Target,
    fixed_arms,
)
from nnunet_transfer.study.document import Document, read_document
from nnunet_transfer.study.validation import check_schema, unknown

#: environment variable of nnU-Net or this package -> name of its folder in the file
FOLDERS = {
    "nnUNet_raw": "raw",
    "nnUNet_preprocessed": "preprocessed",
    "nnUNet_results": "results",
    "nnUNet_sources": "sources",
}
#: nnU-Net's own augmentation wants about 12 cores for a GPU (documentation of nnunetv2 2.8, "How to use nnU-Net")
DEFAULT_RESOURCES = {
    "convert": Resources(4, 8, 12),
    "plan": Resources(4, 16, 4),
    "preprocess": Resources(8, 32, 12),
    "add": Resources(1, 8, 2),
    "pretrain": Resources(12, 48, 72, 1),
    "rank": Resources(1, 16, 12),
    "link": Resources(1, 8, 1),
    "finetune": Resources(12, 48, 48, 1),
    "compare": Resources(4, 16, 8),
    "report": Resources(1, 16, 4),
}
#: without a GPU, every step has one core: the trainings are small, and more of them run in parallel
CPU_RESOURCES = {kind: replace(r, cpus=1, memory_gb=4, gpus=0) for kind, r in DEFAULT_RESOURCES.items()}
DEFAULT_CONFIGURATION = "3d_fullres"
#: nnU-Net's default split
DEFAULT_FOLDS = (0, 1, 2, 3, 4)
#: maximum length of the names of a target and an arm together; file names are limited to 255 characters
LONGEST_NAMES = 190
_DETAILS = ("task", "domain", "sha256", "licence", "trained_on", "map")


def read_study(path: str | os.PathLike[str]) -> Study:
    """Read and check a study file.

    Raises
    ------
    StudyError
        In one line: the file, the line in it, the problem and how to fix it.
    """
    document = read_document(Path(path))
    check_schema(document)
    content = document.content
    file = document.path.absolute()
    folder = _path(content.get("folder", content["name"]), file.parent)
    folders = content.get("folders", {})
    if content["profile"] not in PROFILES:
        raise document.error(["profile"], unknown(content["profile"], PROFILES))
    if "__" in content["name"]:
        raise document.error(["name"], "must not contain '__': nnU-Net splits folder names there")
    for variable in (name for name in content.get("environment", {}) if name in FOLDERS):
        raise document.error(
            ["environment", variable], f"is a folder of the study; give it as folders.{FOLDERS[variable]}"
        )
    study = Study(
        name=content["name"],
        file=file,
        folder=folder,
        folders={
            variable: _path(
                folders.get(key, key if key == "sources" else variable), file.parent if key in folders else folder
            )
            for variable, key in FOLDERS.items()
        },
        profile=content["profile"],
        configuration=content.get("configuration", DEFAULT_CONFIGURATION),
        device=content.get("device", "cuda"),
        datasets=_datasets(document, file.parent),
        sources=_sources(document, file.parent),
        targets=_targets(document),
        arms=(),
        comparison=content.get("comparison", {}),
        resources=_resources(content),
        environment={key: str(value) for key, value in content.get("environment", {}).items()},
        allow_leakage=content.get("allow_leakage", False),
    )
    _check_folders(document, study)
    study = replace(study, arms=tuple(_arms(document, study.sources)), datasets=_with_fitting_patches(document, study))
    _check_baseline(document, study)
    _check_names(document, study)
    return study


def _check_folders(document: Document, study: Study) -> None:
    """Refuse one folder for two purposes: nnU-Net gives a data set's folder the same name in each, and a step would remove it."""
    known: dict[str, str] = {}
    for variable, folder in study.folders.items():
        twin = known.setdefault(os.path.realpath(folder), FOLDERS[variable])
        if twin != FOLDERS[variable]:
            place = ["folders", FOLDERS[variable]]
            raise document.error(place, f"{folder} is the folder {twin}, too; give each its own")


def _with_fitting_patches(document: Document, study: Study) -> dict[str, Dataset]:
    """Apply the common patch size to the data sets that are used with this number of axes."""
    found = dict(study.datasets)
    for name, dataset in study.datasets.items():
        axes = {2 if configuration == "2d" else 3 for configuration in study.configurations(name)}
        given = len(dataset.plans.get("patch_size", ()))
        if not given or not axes or given in axes:
            continue
        if "patch_size" in document.content["datasets"][name].get("plans", {}):
            place = ["datasets", name, "plans", "patch_size"]
            raise document.error(
                place, f"has {given} axes, but {name} is used in {', '.join(study.configurations(name))}"
            )
        found[name] = replace(dataset, plans={k: v for k, v in dataset.plans.items() if k != "patch_size"})
    shared = document.content.get("plans", {}).get("patch_size", ())
    if shared and not any("patch_size" in dataset.plans for dataset in found.values()):
        raise document.error(["plans", "patch_size"], f"has {len(shared)} axes; no data set is used with as many")
    return found


def _check_names(document: Document, study: Study) -> None:
    """Refuse names that would make the file name of a step too long."""
    longest = max(map(len, study.targets)) + max(len(arm.name) for arm in study.arms)
    if longest > LONGEST_NAMES:
        name = max((arm.name for arm in study.arms), key=len)
        raise document.error(
            ["targets"],
            f"file names would be too long: a target's name and {name} have {longest} characters, at most "
            f"{LONGEST_NAMES} are possible; shorten the names of targets or sources",
        )


def _path(text: str, base: Path) -> Path:
    expanded = os.path.expandvars(text)
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise StudyError(f"{text}: the variable {unset[1]} is not set")
    try:
        return Path(os.path.normpath(base / Path(expanded).expanduser()))
    except RuntimeError:
        raise StudyError(f"{text}: there is no user {expanded.split('/', 1)[0]} with a home folder") from None


def _converter(name: str, base: Path) -> str:
    """Return the name of a converter, or the absolute path of its Python file, because steps run in another folder."""
    return str(_path(name, base)) if name.endswith(".py") else name


def _datasets(document: Document, base: Path) -> dict[str, Dataset]:
    shared = document.content.get("plans", {})
    found = {}
    for name, entry in document.content["datasets"].items():
        found[name] = Dataset(
            name,
            entry["id"],
            _converter(entry.get("converter", ""), base),
            _path(entry["path"], base) if "path" in entry else None,
            entry.get("options", {}),
            entry.get("synthetic", ""),
            entry.get("seed", 0),
            {**shared, **entry.get("plans", {})},
            {key: entry[key] for key in ("converter", "path") if key in entry},
        )
    for name, dataset in found.items():
        twin = next(other for other in found.values() if other.number == dataset.number)
        if twin.name != name:
            raise document.error(
                ["datasets", name, "id"], f"{dataset.number} is the id of {twin.name}, too; give each its own"
            )
    return found


def _sources(document: Document, base: Path) -> dict[str, Source]:
    found = {}
    for name, entry in document.content.get("sources", {}).items():
        place: list[str | int] = ["sources", name]
        if name in (SCRATCH, BEST):
            what = "the control arm" if name == SCRATCH else "the arm whose source a ranking chooses"
            raise document.error(place, f"{name} is {what}; choose another name")
        if not NAME.fullmatch(name):
            raise document.error(place, NAME_RULE)
        if "pretrain" not in entry:
            found[name] = Source(
                name,
                checkpoint=entry.get("checkpoint", ""),
                details={key: entry[key] for key in _DETAILS if key in entry},
                key_map=_path(entry["map"], base) if "map" in entry else None,
                fetch=entry.get("fetch", ""),
            )
            continue
        if entry["pretrain"] not in document.content["datasets"]:
            raise document.error([*place, "pretrain"], unknown(entry["pretrain"], document.content["datasets"]))
        found[name] = Source(
            name,
            dataset=entry["pretrain"],
            trainer=_pretrainer(document, place, name, entry),
            configuration=entry.get("configuration", document.content.get("configuration", DEFAULT_CONFIGURATION)),
            fold=entry.get("fold", 0),
        )
    trainings: dict[tuple[Any, ...], str] = {}
    for name, source in found.items():
        if source.trainer:
            key = (source.dataset, source.trainer, source.configuration, source.fold)
            if (twin := trainings.setdefault(key, name)) != name:
                raise document.error(["sources", name], f"is the same training as {twin}; remove one of them")
    return found


def _pretrainer(document: Document, place: Sequence[str | int], name: str, entry: Mapping[str, Any]) -> TrainerName:
    task = entry.get("task") or next((task for task in DEFAULT_PRETRAINERS if name.endswith(task)), None)
    if "trainer" not in entry and task is None:
        raise document.error(place, f"give what it learns: task: {', '.join(DEFAULT_PRETRAINERS)}")
    base = entry.get("trainer") or DEFAULT_PRETRAINERS[str(task)]
    if base not in PRETRAINERS:
        raise document.error([*place, "trainer"], unknown(base, PRETRAINERS))
    if "task" in entry and PRETRAINERS[base] != entry["task"]:
        raise document.error([*place, "task"], f"{base} learns {PRETRAINERS[base]}; remove task or trainer")
    if "recipe" in entry and (base != SEGMENTATION_PRETRAINER or entry["recipe"] not in PRETRAINING_RECIPES):
        possible = f"{SEGMENTATION_PRETRAINER} takes {' or '.join(PRETRAINING_RECIPES)}, others none"
        raise document.error([*place, "recipe"], f"{base} has no recipe {entry['recipe']}; {possible}")
    mirroring = entry.get("mirroring", True)
    if base == SIMCLR and not mirroring:
        raise document.error(
            [*place, "mirroring"], f"{SIMCLR} itself mirrors images; take another trainer, or leave this out"
        )
    return TrainerName(
        base,
        entry.get("recipe", OWN_SCHEDULE),
        cases=entry.get("cases"),
        epochs=entry.get("epochs"),
        iterations=entry.get("iterations"),
        seed=entry.get("seed"),
        no_mirroring=not mirroring,
    )


def _targets(document: Document) -> dict[str, Target]:
    # imported here: protocols need scipy, which is slow to import
    from nnunet_transfer.evaluation.protocols import get_protocol

    found: dict[str, Target] = {}
    for name, entry in document.content["targets"].items():
        if entry["dataset"] not in document.content["datasets"]:
            raise document.error(["targets", name, "dataset"], unknown(entry["dataset"], document.content["datasets"]))
        for i, protocol in enumerate(entry.get("protocols", ())):
            try:
                get_protocol(protocol)
            except SettingsError as error:
                raise document.error(["targets", name, "protocols", i], str(error)) from None
        twin = next((t for t in found.values() if t.dataset == entry["dataset"]), None)
        if twin:
            raise document.error(["targets", name, "dataset"], f"is target {twin.name}, too; remove one of them")
        folds = tuple(entry.get("folds", DEFAULT_FOLDS))
        found[name] = Target(name, entry["dataset"], folds, tuple(entry.get("protocols", ())))
    return found


def _arms(document: Document, sources: Mapping[str, Source]) -> Iterator[StudyArm]:
    """Return all arms: every combination of source, recipe, length of training, number of cases and seed."""
    content = document.content
    schedule = content.get("training", {})
    seen: set[StudyArm] = set()
    for i, entry in enumerate(content.get("arms", [SCRATCH, *sources])):
        place: list[str | int] = ["arms", i]
        entry = {"source": entry} if isinstance(entry, str) else entry
        source = entry["source"]
        if source == BEST:
            _check_best(document, place, sources)
        elif source != SCRATCH and source not in sources:
            raise document.error(
                place, f"an arm without source: {unknown(source, [SCRATCH, BEST, *sources])}; describe it under sources"
            )
        if source == SCRATCH and entry.get("encoder_only"):
            raise document.error(
                [*place, "encoder_only"], "says what a source gives; scratch starts from none; remove it"
            )
        own = "recipes" in entry
        recipes = entry.get("recipes", content.get("recipes", [DEFAULT_RECIPE]))
        for j, recipe in enumerate(recipes):
            if recipe not in RECIPES:
                raise document.error([*place, "recipes", j] if own else ["recipes", j], unknown(recipe, RECIPES))
            for epochs, cases, seed in itertools.product(
                entry.get("epochs", [schedule.get("epochs")]),
                content.get("cases", ["all"]),
                content.get("seeds", [None]),
            ):
                arm = StudyArm(
                    None if source == SCRATCH else source,
                    TrainerName(
                        fixed_arms().get(source, TRANSFER),
                        recipe,
                        entry.get("encoder_only", False),
                        None if cases == "all" else cases,
                        epochs,
                        schedule.get("iterations"),
                        seed,
                        not schedule.get("mirroring", True),
                    ),
                )
                if arm in seen:
                    raise document.error(place, f"{arm.name} is given twice")
                seen.add(arm)
                yield arm


def _check_best(document: Document, place: Sequence[str | int], sources: Mapping[str, Source]) -> None:
    if len(sources) < 2:
        raise document.error(place, f"{BEST} chooses among the study's sources; describe two or more under sources")
    if document.content.get("cases", ["all"]) != ["all"]:
        raise document.error(
            place, f"{BEST} ranks sources on all training cases of a fold; remove {BEST}, or cases from the study"
        )


def _check_baseline(document: Document, study: Study) -> None:
    wanted = study.comparison.get("baseline", SCRATCH)
    if any(arm.is_called(wanted) for arm in study.arms):
        return
    try:
        parse_trainer_name(wanted.split("@")[0])
        problem = "is not an arm of this study"
    except SettingsError:
        problem = unknown(wanted, dict.fromkeys(arm.source or SCRATCH for arm in study.arms))
    place = ["comparison", "baseline"] if "baseline" in study.comparison else ["arms"]
    raise document.error(place, f"baseline {wanted}: {problem}; choose an arm with comparison.baseline")


def _resources(content: Mapping[str, Any]) -> dict[str, Resources]:
    defaults = DEFAULT_RESOURCES if content.get("device", "cuda") != "cpu" else CPU_RESOURCES
    given = content.get("resources", {})
    return {kind: replace(default, **given.get(kind, {})) for kind, default in defaults.items()}
