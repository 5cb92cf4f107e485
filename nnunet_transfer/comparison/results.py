"""Find and name the arms of a target in nnU-Net's results folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_transfer import paths
from nnunet_transfer.comparison.loaded import (
    FOLD,
    REPORT_FILE,
    Loaded,
    chosen_sources,
    contradiction,
    loaded_by,
    planned_source,
    read_loaded,
    recipe_of,
    stated,
)
from nnunet_transfer.errors import ComparisonError, DataError, SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.naming import ARMS, TRANSFER, TrainerName, follows_grammar, is_ours, parse_trainer_name

TASKS = {"classification": "classification", "segmentation": "segmentation", "self_supervised": "self-supervised"}
#: title of the arm whose source a ranking chose for each fold
CHOSEN_TITLE = "Best-ranked source"
DOMAINS = {"natural": "natural images", "t1": "T1 brain MRI"}


@dataclass(frozen=True)
class Arm:
    """One row of a comparison: a source (or scratch) with a recipe; runs with several seeds belong to one arm.

    Attributes
    ----------
    name : trainer name without seed; for `nnUNetTrainerTransfer` followed by `@<source>`
    title : title in the report
    trainer : parts of the trainer's name, without the seed
    source : name of the source, None for training from scratch
    task, domain : source task and source domain, as worded in the report; empty if unknown or from scratch
    sha256 : checksum of the source's weights from the transfer report; empty if there is none
    """

    name: str
    title: str
    trainer: TrainerName
    source: str | None = None
    task: str = ""
    domain: str = ""
    sha256: str = ""

    @property
    def label(self) -> str:
        """The source and its version in one word."""
        return f"{self.source or 'scratch'}{f'@{self.sha256[:8]}' if self.sha256 else ''}"


@dataclass(frozen=True)
class Run:
    """One training over several folds: an arm and a seed.

    Attributes
    ----------
    folder : `<trainer>__<plans>__<configuration>`
    folds : fold number -> folder of validation predictions
    """

    arm: Arm
    seed: int | None
    folder: Path
    plans: str
    configuration: str
    folds: dict[int, Path] = field(default_factory=dict)

    @property
    def trainer(self) -> str:
        """The trainer's full name."""
        return self.folder.name.split("__")[0]


def find_runs(
    dataset: str,
    *,
    arms: Sequence[str] | None = None,
    configuration: str | None = None,
    plans: str | None = None,
    transfer_plans: Sequence[str] | None = None,
) -> tuple[Run, ...]:
    """Find all trained arms of a data set.

    Parameters
    ----------
    arms : trainer names, with or without suffixes; by default every trainer but the pretrainers
    configuration, plans : default: the only ones present
    transfer_plans : plans of `nnUNetTrainerTransfer`; default: all that are present

    Raises
    ------
    ComparisonError
        If nothing was trained, a requested arm was not trained, the configuration or the plans are ambiguous, or one arm
        was trained under two names.
    """
    root = paths.nnunet_results() / dataset
    parts = {f: f.name.split("__") for f in (sorted(root.iterdir()) if root.is_dir() else []) if f.is_dir()}
    parts = {f: p for f, p in parts.items() if len(p) == 3 and any(f.glob("fold_*"))}
    trained = {f: p for f, p in parts.items() if not _is_pretrainer(p[0])}
    if not trained:
        raise ComparisonError(f"no trained fold of {dataset} in {root}; run nnUNetv2_train first")
    present = sorted({f"{p[2]} with {p[1]}" for p in trained.values()})
    configuration = configuration or _only({p[2] for p in trained.values()}, "configurations", "-c", dataset)
    trained = {f: p for f, p in trained.items() if p[2] == configuration}
    if plans:
        trained = {f: p for f, p in trained.items() if p[1] == plans or p[0].split("_")[0] == TRANSFER}
    if transfer_plans is not None:
        trained = {f: p for f, p in trained.items() if p[1] in transfer_plans or p[0].split("_")[0] != TRANSFER}
    # each source has its own plans for nnUNetTrainerTransfer; every other trainer must have one, with all its seeds
    others = [p for p in trained.values() if p[0].split("_")[0] != TRANSFER]
    if len({_without_seed(p[0]) for p in others}) < len({(_without_seed(p[0]), p[1]) for p in others}):
        _only({p[1] for p in others}, "plans", "-p", dataset)
    if arms is not None:  # a name that can't be read is no matter if it isn't asked for
        trained = {f: p for f, p in trained.items() if p[0] in arms or not is_ours(p[0]) or follows_grammar(p[0])}
    runs = _told_apart([_run(folder, *p) for folder, p in trained.items()])
    if arms is not None:
        runs = _select(runs, arms, dataset)
    if not runs:
        wanted = f"configuration {configuration}{f' and plans {plans}' if plans else ''}"
        raise ComparisonError(f"{dataset} has no results with {wanted}; there are: {', '.join(present)}")
    _check_twins(runs, dataset)
    return tuple(sorted(runs, key=_order))


def _check_twins(runs: Sequence[Run], dataset: str) -> None:
    """Refuse two folders of one arm and seed: their names differ only in that one states the recipe of the other."""
    found: dict[tuple[str, int | None], Run] = {}
    for run in runs:
        twin = found.setdefault((run.arm.name, run.seed), run)
        if twin is not run:
            raise ComparisonError(
                f"{dataset}: {twin.trainer} and {run.trainer} are one arm, trained twice with the recipe "
                f"{run.arm.trainer.recipe}, which only one of the names states; move one of the two folders elsewhere"
            )


def _is_pretrainer(trainer: str) -> bool:
    return is_ours(trainer) and trainer.startswith("nnUNetPretrainer")


def _without_seed(trainer: str) -> str:
    return re.sub("_seed[0-9]+$", "", trainer) if is_ours(trainer) else trainer


def _only(choices: set[str], what: str, option: str, dataset: str) -> str:
    if len(choices) > 1:
        raise ComparisonError(
            f"{dataset} has results of several {what}: {', '.join(sorted(choices))}; choose with {option}"
        )
    return next(iter(choices))


def _order(run: Run) -> tuple[int, list[str | int], int]:
    order = [*ARMS, TRANSFER]
    base = run.arm.trainer.base
    # 8 epochs before 12: every second piece is a number
    pieces = [int(p) if i % 2 else p for i, p in enumerate(re.split(r"([0-9]+)", run.arm.name))]
    return (order.index(base) if base in order else -1, pieces, -1 if run.seed is None else run.seed)


def _select(runs: tuple[Run, ...], arms: Sequence[str], dataset: str) -> tuple[Run, ...]:
    chosen: list[Run] = []
    for name in arms:
        found = [
            r
            for r in runs
            if name in (r.trainer, f"{r.trainer}@{r.arm.source}", r.arm.name, r.arm.trainer.base, r.arm.source)
        ]
        if not found:
            raise ComparisonError(
                f"{dataset} has no results of {name}; there are: {', '.join(dict.fromkeys(r.trainer for r in runs))}"
            )
        chosen += [r for r in found if r not in chosen]
    return tuple(chosen)


def _run(folder: Path, trainer: str, plans: str, configuration: str) -> Run:
    try:
        parsed = parse_trainer_name(trainer) if is_ours(trainer) else TrainerName(trainer)
    except SettingsError as error:
        raise ComparisonError(f"{folder}: {error}; leave it out with --arms") from None
    folds = {int(m[1]): f / "validation" for f in sorted(folder.iterdir()) if (m := FOLD.fullmatch(f.name))}
    trained = {k: validation.parent for k, validation in folds.items()}
    if not parsed.own_schedule and (recipe := recipe_of(trainer, trained)):
        parsed = replace(parsed, recipe=recipe)
    loaded = loaded_by(trainer, trained, chosen_sources(folder))
    return Run(_arm(folder, parsed, loaded), parsed.seed, folder, plans, configuration, folds)


def _arm(folder: Path, trainer: TrainerName, loaded: Loaded | None) -> Arm:
    trainer = replace(trainer, seed=None)
    name = str(trainer)
    source = ARMS.get(trainer.base)
    if trainer.base == TRANSFER:
        source = planned_source(folder) or "unknown source"
        name = f"{name}@{source}"
    if loaded is not None:
        task, domain = TASKS.get(loaded.task, loaded.task), DOMAINS.get(loaded.domain, loaded.domain)
        # a name that contradicts the loaded source is not used as the title
        truthful = stated(loaded.name) in (("", ""), (loaded.task, loaded.domain))
        title = _source_title(loaded.task, loaded.domain) or (loaded.name if truthful else f"{domain} {task}")
        arm = Arm(name, title, trainer, loaded.name, task, domain, loaded.sha256)
    elif source is None and trainer.base in ARMS:
        arm = Arm(name, "Scratch", trainer)
    else:
        task, domain = stated(source or "")
        if not task:
            task, domain = _from_card(source)
        title = _source_title(task, domain) if source in ARMS.values() else ""
        if chosen_sources(folder):
            title = CHOSEN_TITLE
        known = (TASKS.get(task, task), DOMAINS.get(domain, domain))
        arm = Arm(name, title or source or trainer.base, trainer, source, *known)
    suffix = name.split("@")[0].removeprefix(trainer.base).strip("_").replace("_", ", ")
    return replace(arm, title=f"{arm.title} ({suffix})") if suffix else arm


def _source_title(task: str, domain: str) -> str:
    """Return the title of a source with known task and domain; empty for others."""
    if task not in TASKS or domain not in DOMAINS:
        return ""
    return f"{'T1' if domain == 't1' else 'Natural'} {TASKS[task]}"


def _told_apart(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Split runs with the same name into separate arms if they use other versions of a source or other plans."""
    versions: dict[str, dict[str, Arm]] = {}
    for run in runs:
        versions.setdefault(run.arm.name, {})[run.arm.sha256] = run.arm

    def own(arm: Arm) -> Arm:
        known = {sha256: version for sha256, version in versions[arm.name].items() if sha256}
        if len(known) > 1:
            return _marked(arm, arm.sha256[:8] or "unknown")
        # a run without a transfer report belongs to the others with its name
        return next(iter(known.values()), arm)

    told = [replace(run, arm=own(run.arm)) for run in runs]
    plans: dict[str, set[str]] = {}
    for run in told:
        plans.setdefault(run.arm.name, set()).add(run.plans)
    return tuple(replace(r, arm=_marked(r.arm, r.plans)) if len(plans[r.arm.name]) > 1 else r for r in told)


def _marked(arm: Arm, mark: str) -> Arm:
    return replace(arm, name=f"{arm.name}@{mark}", title=f"{arm.title} [{mark}]")


def _from_card(source: str | None) -> tuple[str, str]:
    if source is None:
        return "", ""
    try:
        card = read_json(paths.sources_folder() / source / "source.json")
        task, domain = str(card["task"]), str(card["domain"])
    except (DataError, KeyError, TypeError):
        return "", ""
    return task, domain


def short_titles(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Return the runs with short, distinct titles.

    Suffixes that all arms share are removed. Arms with the same title are distinguished by source or trainer.
    """
    suffixes = {r.arm.title.partition(" (")[2].partition(")")[0] for r in runs if is_ours(r.arm.trainer.base)}
    parts = [set(s.split(", ")) if s else set() for s in suffixes]
    shared = set.intersection(*parts) if parts else set()

    def shorten(arm: Arm) -> str:
        title, _, rest = arm.title.partition(" (")
        suffix, _, mark = rest.partition(")")
        kept = [p for p in suffix.split(", ") if p and p not in shared]
        return (f"{title} ({', '.join(kept)})" if kept else title) + mark

    arms = list(dict.fromkeys(r.arm for r in runs))
    titles = {arm: shorten(arm) for arm in arms}
    for title in {*titles.values()}:
        alike = [arm for arm in arms if titles[arm] == title]
        if len(alike) > 1:
            # the name is always distinct
            detail = next(d for d in ("source", "label", "name") if _distinct(alike, d) or d == "name")
            titles |= {arm: f"{title} [{getattr(arm, detail)}]" for arm in alike}
    return tuple(replace(r, arm=replace(r.arm, title=titles[r.arm])) for r in runs)


def _distinct(arms: Sequence[Arm], detail: str) -> bool:
    values = [getattr(arm, detail) for arm in arms]
    return all(values) and len(set(values)) == len(values)


def source_notices(runs: Sequence[Run]) -> list[str]:
    """Return sentences on arms whose name contradicts the loaded source, or that have no transfer report."""
    found: list[str] = []
    silent: list[str] = []
    for run in runs:
        folds = {k: validation.parent for k, validation in run.folds.items()}
        chosen = chosen_sources(run.folder)
        if chosen:
            listed = ", ".join(f"{source} in fold {k}" for k, source in sorted(chosen.items()) if k in folds)
            found.append(f"{run.arm.title}: a ranking on each fold's training cases chose {listed}.")
        if text := contradiction(run.trainer, loaded_by(run.trainer, folds, chosen), planned_source(run.folder)):
            found.append(f"Doubtful: {text}. The report uses the loaded source.")
        expected = run.arm.trainer.base == TRANSFER or ARMS.get(run.arm.trainer.base) is not None
        if expected and (missing := [str(k) for k, folder in folds.items() if read_loaded(folder) is None]):
            some = len(missing) < len(folds)
            silent.append(f"{run.trainer} (fold {', '.join(missing)})" if some else run.trainer)
    if silent:
        found.append(f"No {REPORT_FILE} found, so the source is taken from the trainer's name: {', '.join(silent)}.")
    return found
