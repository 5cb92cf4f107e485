"""Rank sources for a target without fine-tuning, on its training cases alone."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from nnunet_transfer.adaptation import Target as AdaptationTarget
from nnunet_transfer.adaptation import transfer_weights
from nnunet_transfer.errors import AdaptationError, DataError, SettingsError, one_line
from nnunet_transfer.files import write_text
from nnunet_transfer.finetuning.features import Level, collect, output_layers
from nnunet_transfer.ranking.fitted import CaseScore, score_fitted_heads
from nnunet_transfer.ranking.measures import cc_fv, gbc, interval, leep, logme, mean_ranks
from nnunet_transfer.ranking.target import Target, build_network, draw_patches, open_target, output_shapes
from nnunet_transfer.ranking.topological import global_score, local_score
from nnunet_transfer.ranking.topology import fused
from nnunet_transfer.sources import Source, list_sources, load_source
from nnunet_transfer.sources.outputs import BACKGROUND
from nnunet_transfer.tables import read_rows

log = logging.getLogger(__name__)

#: the row of a random network
RANDOM = "(random)"
#: number of voxels per class for LogME and GBC
_PER_CLASS = 500
_OUTPUT_LAYER = re.compile(r"decoder\.seg_layers\.(\d+)\.weight")


@dataclass(frozen=True)
class RankSettings:
    """How to rank sources.

    Attributes
    ----------
    fold
        Use only the training cases of this fold; None for all cases of the data set.
    folds
        Number of cross-validation folds for the fitted heads, split by subject.
    cases
        Maximum number of cases.
    patches
        Number of patches per case.
    seed
        Random seed.
    results
        CSV table of scores on other targets, with the columns `source`, `target` and `score`.
    """

    fold: int | None = None
    folds: int = 5
    cases: int = 40
    patches: int = 8
    seed: int = 0
    results: Path | None = None


@dataclass(frozen=True)
class RankedSource:
    """Scores of one source. Scores that can't be computed are NaN. Higher is better for all scores.

    Attributes
    ----------
    source
        Name of the source.
    dice, dice_low, dice_high
        Dice of the fitted head, mean over subjects, with its 95 % interval.
    lesion_f1
        Lesion-wise F1 of the same predictions, mean over subjects.
    logme, gbc, leep, cc_fv
        Transferability estimates, see `ranking.measures`.
    grtd, lbtc
        Global and local topological scores of TopoTE.
    topote
        Combination of both, scaled over all sources in the ranking.
    elsewhere
        Negative mean rank on the other targets in the table `RankSettings.results`.
    subjects
        Number of subjects behind the means.
    rank
        Rank by Dice, from 1; None without Dice.
    seconds
        Wall time.
    note
        Why there are no scores.
    """

    source: str
    dice: float = math.nan
    dice_low: float = math.nan
    dice_high: float = math.nan
    lesion_f1: float = math.nan
    logme: float = math.nan
    gbc: float = math.nan
    leep: float = math.nan
    cc_fv: float = math.nan
    grtd: float = math.nan
    lbtc: float = math.nan
    topote: float = math.nan
    elsewhere: float = math.nan
    subjects: int = 0
    rank: int | None = None
    seconds: float = 0.0
    note: str = ""


#: column -> attribute
COLUMNS = {
    "rank": "rank",
    "source": "source",
    "Dice": "dice",
    "Dice low": "dice_low",
    "Dice high": "dice_high",
    "lesion F1": "lesion_f1",
    "LogME": "logme",
    "GBC": "gbc",
    "LEEP": "leep",
    "CC-FV": "cc_fv",
    "GRTD": "grtd",
    "LBTC": "lbtc",
    "TopoTE": "topote",
    "mean rank elsewhere": "elsewhere",
    "subjects": "subjects",
    "seconds": "seconds",
    "note": "note",
}


def rank_sources(
    dataset: str,
    configuration: str,
    plans: str,
    names: Sequence[str] = (),
    *,
    settings: RankSettings | None = None,
    device: str = "cpu",
) -> list[RankedSource]:
    """Score sources on a target's training cases, sorted by fitted-head Dice, best first, including a random network.

    Parameters
    ----------
    dataset, configuration, plans : the preprocessed target
    names : names of sources in the registry; all if empty

    Raises
    ------
    TransferError
        If the target or a source can't be read.
    """
    settings = settings or RankSettings()
    if settings.folds < 2 or settings.patches < 2 or settings.cases < 2:
        raise SettingsError("ranking needs 2 or more folds, cases and patches of each case")
    if settings.seed < 0:
        raise SettingsError(f"the seed {settings.seed} is negative; give 0 or more")
    chosen = _usable(device)
    target = open_target(dataset, configuration, plans, fold=settings.fold, limit=settings.cases, seed=settings.seed)
    sources = [load_source(name) for name in names or [card.name for card in list_sources()]]
    elsewhere = ranks_elsewhere(settings.results, target.dataset) if settings.results else {}
    rows = []
    for source in (*sources, None):
        started = perf_counter()
        row = _rank_one(target, source, settings, chosen)
        row = replace(row, elsewhere=elsewhere.get(row.source, math.nan), seconds=round(perf_counter() - started, 1))
        log.info("%s: %s", row.source, row.note or f"Dice {row.dice:.3f} after {row.seconds:.0f} s")
        rows.append(row)
    scores = fused([row.grtd for row in rows], [row.lbtc for row in rows], len(target.classes))
    return _ordered([replace(row, topote=score) for row, score in zip(rows, scores, strict=True)])


def _usable(device: str) -> torch.device:
    """Return a device, after it has held a value."""
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has no error of its own for this
        raise SettingsError(
            f"device {device} can't be used here ({one_line(error, 200)}); choose another, such as cpu"
        ) from None
    return chosen


def _rank_one(target: Target, source: Source | None, settings: RankSettings, device: torch.device) -> RankedSource:
    name = source.card.name if source else RANDOM
    network = build_network(target, settings.seed).to(device)
    if not output_layers(network):
        raise DataError(f"the network of {target.plans.plans_name} has no output layers of nnU-Net's kind to fit")
    if source is not None:
        try:
            transfer_weights(network, source, target=AdaptationTarget(target.dataset, tuple(target.channels)))
        except AdaptationError as error:
            return RankedSource(name, note=f"does not fit: {error}")
    collected = collect_cases(network, target, settings, device)
    finest = {case: levels[-1] for case, levels in collected.items()}
    features, labels, weights = _pooled(finest)
    row = RankedSource(
        name,
        logme=_or_nan(logme, *_balanced(features, labels, settings.seed)),
        gbc=_or_nan(gbc, *_balanced(features, labels, settings.seed)),
        leep=_leep(source, features, labels, weights),
        cc_fv=_cc_fv(collected, target),
        grtd=global_score(collected, target, settings.seed),
        lbtc=local_score(network, patches_of(network, target, settings, device), target, device, settings.seed),
    )
    scores = score_fitted_heads(network, target, finest, folds=settings.folds, seed=settings.seed, device=device)
    return _with_scores(row, scores, target.subjects)


def collect_cases(
    network: nn.Module, target: Target, settings: RankSettings, device: torch.device
) -> dict[str, list[Level]]:
    """Return each case's sampled voxels at every level, the finest last; one case is in memory at a time."""
    total = settings.patches * len(target.cases)
    generator = torch.Generator().manual_seed(settings.seed)
    collected = {}
    for case, batch in patches_of(network, target, settings, device):
        collected[case] = collect(
            network, [batch], target.labelling, patches=total, by_patch=False, device=device, generator=generator
        )
    return collected


def patches_of(
    network: nn.Module, target: Target, settings: RankSettings, device: torch.device
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each case with its patches, which are the same in every call."""
    shapes = output_shapes(network, target, device)
    for case in target.cases:
        rng = np.random.default_rng([settings.seed, *case.encode()])
        yield case, draw_patches(target, case, settings.patches, shapes, rng)


def _pooled(finest: Mapping[str, Level]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all voxels' features, labels (of regions: combinations) and weights."""
    features = torch.cat([f for level in finest.values() for f in level.features]).cpu().double().numpy()
    targets = torch.cat([t for level in finest.values() for t in level.targets]).cpu().numpy()
    weights = torch.cat([w for level in finest.values() for w in level.weights]).cpu().double().numpy()
    if targets.ndim > 1:
        targets = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    return features, targets.astype(np.int64), weights


def _balanced(features: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(found, min(len(found), _PER_CLASS), replace=False)
        for found in (np.flatnonzero(labels == c) for c in np.unique(labels))
    ]
    index = np.sort(np.concatenate(chosen))
    return features[index], labels[index]


def _or_nan(measure: Callable[[np.ndarray, np.ndarray], float], features: np.ndarray, labels: np.ndarray) -> float:
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(measure(features, labels))


def _leep(source: Source | None, features: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Return LEEP with the source's own finest output layer, NaN if its outputs are unknown or regions."""
    groups = source.card.outputs if source else ()
    if source is None or not groups or groups[0][0].lower() != BACKGROUND:
        return math.nan
    tensors = source.tensors()
    layers = {int(m[1]): key for key in tensors if (m := _OUTPUT_LAYER.fullmatch(key))}
    if not layers:
        return math.nan
    finest = layers[max(layers)]
    weight, bias = tensors[finest], tensors.get(finest.replace(".weight", ".bias"))
    # of another width, or not what a convolution has
    if weight.shape[1:].numel() != features.shape[1] or bias is None or bias.shape != weight.shape[:1] or not len(bias):
        return math.nan
    count = len(groups[0])
    logits = features @ weight.double().flatten(1).numpy()[:count].T + bias.double().numpy()[:count]
    outputs = np.exp(logits - logits.max(axis=1, keepdims=True))
    return leep(outputs / outputs.sum(axis=1, keepdims=True), labels, weights)


def _cc_fv(collected: Mapping[str, Sequence[Level]], target: Target) -> float:
    if target.labelling.regions:
        return math.nan
    levels = []
    for number in range(len(next(iter(collected.values())))):
        cases = []
        for case in target.cases:
            level = collected[case][number]
            if not len(level):
                continue
            features = torch.cat(level.features).cpu().double().numpy()
            labels = torch.cat(level.targets).cpu().numpy()
            cases.append({int(c): features[labels == c] for c in np.unique(labels)})
        if len(cases) > 1:
            levels.append(cases)
    value = cc_fv(levels)
    return math.nan if value is None else value


def _with_scores(row: RankedSource, scores: Mapping[str, CaseScore], subjects: Mapping[str, str]) -> RankedSource:
    """Add means over subjects, each the mean over its cases with foreground."""
    dice, f1 = [_of_subjects(scores, subjects, name) for name in ("dice", "lesion_f1")]
    low, high = interval(dice)
    return replace(
        row,
        dice=float(np.mean(dice)) if dice else math.nan,
        dice_low=low,
        dice_high=high,
        lesion_f1=float(np.mean(f1)) if f1 else math.nan,
        subjects=len(dice),
    )


def _of_subjects(scores: Mapping[str, CaseScore], subjects: Mapping[str, str], name: str) -> list[float]:
    values = defaultdict(list)
    for case in sorted(scores):
        if not math.isnan(value := getattr(scores[case], name)):
            values[subjects[case]].append(value)
    return [float(np.mean(found)) for found in values.values()]


def _ordered(rows: Sequence[RankedSource]) -> list[RankedSource]:
    """Return the rows by fitted-head Dice, best first, and those without Dice last; equal scores share a rank."""
    known = sorted((r for r in rows if not math.isnan(r.dice)), key=lambda r: -r.dice)
    ranked = [replace(r, rank=1 + sum(o.dice > r.dice for o in known)) for r in known]
    return [*ranked, *(r for r in rows if math.isnan(r.dice))]


#: columns of a table of scores
ELSEWHERE = ("source", "target", "score")


def ranks_elsewhere(path: Path, target: str) -> dict[str, float]:
    """Return minus the mean rank of each source on other targets, from a table source, target, score.

    Raises
    ------
    DataError
        If the table can't be read, lacks a column, has a score that is no number, or gives a pair twice.
    """
    (_, header), *rows = read_rows(path)
    if missing := [name for name in ELSEWHERE if name not in header]:
        raise DataError(f"{path} has no column {missing[0]}; its first line must name source, target and score")
    scores: dict[tuple[str, str], float] = {}
    for line, cells in rows:
        found = dict(zip(header, cells, strict=False))
        pair = found.get("source", ""), found.get("target", "")
        try:
            score = float(found.get("score", ""))
        except ValueError:
            raise DataError(f"{path}, line {line}: score must be a number") from None
        if pair in scores:
            raise DataError(f"{path}, line {line}: {pair[0]} on {pair[1]} is given twice; keep one line")
        scores[pair] = score
    sources, targets = (sorted({pair[i] for pair in scores}) for i in (0, 1))
    table = np.array([[scores.get((s, t), math.nan) for t in targets] for s in sources])
    place = targets.index(target) if target in targets else -1
    if table.shape[1] <= (place >= 0):
        return {}
    return dict(zip(sources, mean_ranks(table, place).tolist(), strict=True))


def table_of(rows: Sequence[RankedSource]) -> list[list[str]]:
    """Return header and rows as text, without empty columns."""
    cells = [[_text(getattr(row, attribute)) for attribute in COLUMNS.values()] for row in rows]
    kept = [i for i in range(len(COLUMNS)) if any(row[i] for row in cells)]
    return [[list(COLUMNS)[i] for i in kept], *([row[i] for i in kept] for row in cells)]


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_ranking(rows: Sequence[RankedSource], path: Path, *, target: str, fold: int | None) -> None:
    """Write all columns as CSV, and in front of them the target and the fold whose training cases were used."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["target", "fold", *COLUMNS])
    head = [target, _text(fold)]
    writer.writerows([[*head, *(_text(getattr(row, attribute)) for attribute in COLUMNS.values())] for row in rows])
    write_text(path, text.getvalue())
