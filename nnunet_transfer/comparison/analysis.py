"""From scores of cases to the results in the report: means, paired differences, tests. Doesn't access files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from nnunet_transfer.comparison.averages import Scores, average_scores, with_subject_folds
from nnunet_transfer.comparison.baselines import baselines_of_all
from nnunet_transfer.comparison.bootstrap import make_clusters
from nnunet_transfer.comparison.curves import learning_curves, training_lengths
from nnunet_transfer.comparison.duplicates import same_scores
from nnunet_transfer.comparison.folds import Outlier, find_outliers, fold_table
from nnunet_transfer.comparison.grid import grid_table
from nnunet_transfer.comparison.lesions import lesion_free, pooled_detection, size_sensitivity
from nnunet_transfer.comparison.metrics import (
    PRIMARY,
    add_differences,
    compared_metrics,
    metric_of,
    outermost_totals,
    score_columns,
    secondary_metrics,
    total_columns,
)
from nnunet_transfer.comparison.paired import add_verdicts, every_pair, paired_table
from nnunet_transfer.comparison.ranking import rank_stability
from nnunet_transfer.comparison.recipe_choice import recipe_table
from nnunet_transfer.comparison.results import Arm, Run
from nnunet_transfer.comparison.settings import CompareSettings
from nnunet_transfer.comparison.statistics import holm
from nnunet_transfer.comparison.targets import Target
from nnunet_transfer.comparison.volumes import volume_agreement
from nnunet_transfer.evaluation.empties import EMPTY_RULES, apply_empty_rule, empty_share
from nnunet_transfer.evaluation.mean_iou import mean_iou
from nnunet_transfer.evaluation.protocols import LesionProtocol
from nnunet_transfer.naming import TrainerName
from nnunet_transfer.words import counted, joined, shortened, verb

#: tables of a `TargetResult` that are written to files
TABLES = (
    *("cases", "lesions", "summary", "tests", "pairs", "ranks", "folds", "grid", "detection", "lesion_free", "sizes"),
    *("volumes", "curves", "lengths", "recipes", "arm_key"),
)
#: families of tests whose p-values are adjusted together, over all targets
PRIMARY_FAMILY, SECONDARY_FAMILY = "primary", "secondary"
#: what the baselines of different arms may differ in -> its value for a trainer
_TOLD_APART: dict[str, Callable[[TrainerName], object]] = {
    "recipe": lambda trainer: trainer.recipe,
    "length": lambda trainer: trainer.total_iterations,
    "mirroring": lambda trainer: trainer.no_mirroring,
}


@dataclass(frozen=True)
class TargetResult:
    """All results of one target.

    Attributes
    ----------
    target, arms, runs : the compared arms and their runs
    curve_runs : runs of the arms trained on another number of cases, which are only in `cases`, `lesions`, `curves` and `lengths`
    baseline : name of the (first) baseline
    baselines : arm -> its baseline; with several recipes or lengths, that of the same, see `choose_baselines`
    protocols : lesion protocols
    settings : settings of scores and statistics
    cases : one row per run, case and label
    lesions : one row per run, case, protocol and reference lesion
    per_case : one row per arm and case: mean over labels (for volumes and counts of lesions, the sum), then over seeds
    per_subject : one row per arm and subject: also averaged over its scans
    summary : one row per arm: n, means, medians over subjects
    tests : one row per metric and arm except baselines: paired difference with interval, p and effect size, and the verdict
        for the primary metric
    pairs : one row per pair of arms: the same for the primary metric
    ranks : one row per arm: rank, its interval, and how often it takes each rank
    folds : one row per arm, fold and seed: mean of the primary metric
    grid : one row per arm with a known source: its position in the grid of task by domain
    detection : one row per protocol and arm: detection pooled over subjects, and over labels that aren't inside others
    lesion_free : one row per label and arm: false positives where the reference is empty
    sizes : one row per protocol, arm and stratum of lesion size: sensitivity, pooled in the same way
    volumes : one row per label and arm: agreement of volumes
    curves : one row per arm and number of training cases; empty if all have the same number
    lengths : one row per arm and length of training; empty if each arm has only one
    recipes : one row per arm, with its recipe chosen on other folds; empty if no arm has several
    outliers : folds and seeds that stand out
    notices : sentences for the top of the report
    """

    target: Target
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    baseline: str
    protocols: tuple[LesionProtocol, ...]
    settings: CompareSettings
    cases: pd.DataFrame
    lesions: pd.DataFrame
    per_case: pd.DataFrame
    summary: pd.DataFrame
    tests: pd.DataFrame
    pairs: pd.DataFrame
    ranks: pd.DataFrame
    detection: pd.DataFrame
    sizes: pd.DataFrame
    volumes: pd.DataFrame
    curves: pd.DataFrame
    recipes: pd.DataFrame
    notices: tuple[str, ...]
    per_subject: pd.DataFrame = field(default_factory=pd.DataFrame)
    folds: pd.DataFrame = field(default_factory=pd.DataFrame)
    grid: pd.DataFrame = field(default_factory=pd.DataFrame)
    lesion_free: pd.DataFrame = field(default_factory=pd.DataFrame)
    baselines: Mapping[str, str] = field(default_factory=dict)
    outliers: tuple[Outlier, ...] = ()
    lengths: pd.DataFrame = field(default_factory=pd.DataFrame)
    curve_runs: tuple[Run, ...] = ()

    @property
    def n_cases(self) -> int:
        """Number of compared cases."""
        return int(self.per_case["case"].nunique())

    @property
    def n_subjects(self) -> int:
        """Number of subjects of these cases."""
        return int(self.per_case["subject"].nunique())

    @property
    def n_folds(self) -> int:
        """Number of folds with compared cases."""
        compared = set(self.per_case["case"])
        return sum(not compared.isdisjoint(cases) for cases in self.target.folds.values())

    @property
    def size(self) -> str:
        """Number of cases and of subjects in words."""
        return f"{counted(self.n_cases, 'case')} of {counted(self.n_subjects, 'subject')}"

    @property
    def n_counted(self) -> int:
        """Number of subjects with a score; subjects with only empty references may be left out."""
        return int(self.per_subject.groupby("arm")[PRIMARY].count().max())

    @property
    def n_scored(self) -> int:
        """Number of cases with a score; cases with only empty references may be left out."""
        return int(self.per_case.groupby("arm")[PRIMARY].count().max())

    @property
    def failed(self) -> frozenset[str]:
        """Names of the arms, those on fewer cases included, without a correct voxel in any case, though references have some.

        The mean Dice of such an arm isn't 0 if its empty predictions score 1 where the reference is empty.
        """
        voxels = self.cases.groupby("arm")[["voxels_tp", "voxels_fn"]].sum()
        return frozenset(voxels.index[(voxels["voxels_tp"] == 0) & (voxels["voxels_fn"] > 0)])

    @property
    def baseline_title(self) -> str:
        """Title of the baseline, or of all of them, in headings."""
        return (
            self._baselines if all(map(self._is_alike, self.baselines)) else f"{self._baselines} (where there is one)"
        )

    def reference_of(self, arm: str) -> str:
        """Return the title of an arm's baseline in sentences: the common one, if it is true of this arm."""
        return self._baselines if self._is_alike(arm) else self.title_of(self.baselines[arm])

    @property
    def _baselines(self) -> str:
        if len(baselines := dict.fromkeys(self.baselines.values())) < 2:
            return self.title_of(self.baseline)
        # titles name the recipe in brackets, codes don't: "Scratch" is one name, "A1 or A2" are two
        names = list(dict.fromkeys(self.title_of(name).partition(" (")[0] for name in baselines))
        return f"{joined(names, 'or')} with the same {joined(list(self._told_apart) or ['settings'])}"

    @property
    def _told_apart(self) -> dict[str, Callable[[TrainerName], object]]:
        """What the baselines differ in."""
        baselines = [arm.trainer for arm in self.arms if arm.name in self.baselines.values()]
        return {what: of for what, of in _TOLD_APART.items() if len(set(map(of, baselines))) > 1}

    def _is_alike(self, arm: str) -> bool:
        """Whether an arm's baseline is like it in what the baselines differ in."""
        trainers = {a.name: a.trainer for a in self.arms}
        pair = trainers[arm], trainers[self.baselines[arm]]
        return all(len(set(map(of, pair))) == 1 for of in self._told_apart.values())

    @property
    def arm_key(self) -> pd.DataFrame:
        """One row per arm: title, trainer and loaded source."""
        rows = [
            (a.title, a.name, a.source or "", a.task, a.domain, a.sha256, self.baselines.get(a.name, ""))
            for a in self.arms
        ]
        return pd.DataFrame(rows, columns=["title", "arm", "source", "task", "domain", "sha256", "baseline"])

    def title_of(self, arm: str) -> str:
        """Return an arm's title."""
        return next(a.title for a in self.arms if a.name == arm)


def metric_name(result: TargetResult, metric: str) -> str:
    """Return the title of a metric."""
    return metric_of(metric, result.protocols).title


def analyse(
    target: Target,
    runs: Sequence[Run],
    baselines: Mapping[Arm, Arm],
    cases: pd.DataFrame,
    lesions: pd.DataFrame,
    notices: Sequence[str],
    settings: CompareSettings | None = None,
) -> TargetResult:
    """Summarise the scores of one target.

    The score of a case is the mean over labels, then over seeds; the score of a subject is the mean over its scans. All
    means, differences, intervals, tests and ranks are computed over subjects. Intervals come from a bootstrap over subjects
    within folds.

    Parameters
    ----------
    baselines : arm -> the arm it is compared with; a baseline is its own
    cases, lesions : see `TargetResult`; scores as the metrics define them, the rule for empty references is applied here
    """
    settings = settings or CompareSettings()
    protocols = settings.protocols_of(target.dataset)
    cases = add_differences(apply_empty_rule(cases, protocols, settings.empty), protocols)
    every_arm = tuple(dict.fromkeys(run.arm for run in runs))
    # arms are compared at equal numbers of training cases; the other numbers go into the learning curves
    arms = tuple(arm for arm in every_arm if arm in baselines)
    pairs = [(arm, baselines[arm]) for arm in arms if baselines[arm] != arm]
    against = {arm.name: baselines[arm].name for arm in arms}
    first = next(iter(dict.fromkeys(baselines[arm] for arm in arms)))
    columns = score_columns(protocols, list(cases.columns))
    whole = outermost_totals(cases, protocols, target.label_set.outermost)
    everything = average_scores(whole, columns, target.train_sizes, total_columns(protocols))
    limit = first.trainer.cases
    scores = replace(
        everything.of(list(against)), train_sizes={fold: min(n, limit or n) for fold, n in target.train_sizes.items()}
    )
    compared = with_subject_folds(cases[cases["arm"].isin(against)])
    outliers = find_outliers(scores, arms, pairs)
    unsteady = {o.arm for o in find_outliers(everything, every_arm, ()) if o.seed is not None}
    main = compared_metrics(protocols)
    metrics = [*main, *secondary_metrics(protocols, columns)]
    tests = paired_table(scores, pairs, metrics, settings, protocols, unsteady=unsteady, again=main)
    of_all = baselines_of_all(every_arm, baselines)
    return TargetResult(
        target=target,
        arms=arms,
        runs=tuple(run for run in runs if run.arm in arms),
        baseline=first.name,
        protocols=protocols,
        settings=settings,
        cases=cases,
        lesions=lesions,
        per_case=scores.per_case,
        per_subject=scores.per_subject,
        summary=pd.DataFrame([_summarise(arm, scores, compared, columns, settings) for arm in arms]),
        tests=tests,
        pairs=every_pair(scores, arms, PRIMARY, settings, unsteady),
        ranks=_ranks(scores, arms, settings, by_fold=any(o.seed is None for o in outliers)),
        folds=fold_table(scores, arms, against, outliers),
        grid=grid_table(arms, tests),
        **_lesion_tables(compared, lesions, arms, scores, target, settings),
        volumes=volume_agreement(compared, arms, scores, settings),
        curves=learning_curves(everything, every_arm, of_all, PRIMARY, settings, unsteady),
        lengths=training_lengths(everything, every_arm, of_all, PRIMARY, settings, unsteady),
        recipes=recipe_table(scores, arms, baselines, PRIMARY, settings, unsteady),
        baselines=against,
        outliers=outliers,
        notices=(*notices, *_lonely(every_arm, of_all), *_warnings(cases, runs, arms, settings)),
        curve_runs=tuple(run for run in runs if run.arm not in arms),
    )


def _lesion_tables(
    cases: pd.DataFrame,
    lesions: pd.DataFrame,
    arms: Sequence[Arm],
    scores: Scores,
    target: Target,
    settings: CompareSettings,
) -> dict[str, pd.DataFrame]:
    """Return the tables on the detection of lesions.

    Parameters
    ----------
    cases, lesions : of the compared arms; of all arms
    """
    protocols = settings.protocols_of(target.dataset)
    # a lesion of an inner region is one of its outer region, too
    outermost = target.label_set.outermost or tuple(dict.fromkeys(cases["label"]))
    whole = cases[cases["label"].isin(outermost)]
    if len(lesions):
        lesions = lesions[lesions["arm"].isin([arm.name for arm in arms]) & lesions["label"].isin(outermost)]
    numbers = scores.per_case.groupby("subject")["case"].nunique()
    scans = dict(zip(map(str, numbers.index), numbers.tolist(), strict=True))
    return {
        "detection": pooled_detection(whole, arms, protocols, settings, scores.ratios),
        "lesion_free": lesion_free(cases, arms, protocols, settings, scores.ratios),
        "sizes": size_sensitivity(lesions, arms, settings, scans, scores.ratios),
    }


def _lonely(arms: Sequence[Arm], baselines: Mapping[Arm, Arm]) -> list[str]:
    """Return a sentence on the arms whose baseline was not trained on their number of cases."""
    lonely = [arm.title for arm in arms if arm not in baselines]
    if not lonely:
        return []
    why = verb(
        len(lonely), "its baseline was not trained on its number", "their baselines were not trained on their numbers"
    )
    return [f"Only in the learning curves, because {why} of cases: {', '.join(lonely)}."]


def _warnings(cases: pd.DataFrame, runs: Sequence[Run], arms: Sequence[Arm], settings: CompareSettings) -> list[str]:
    found = same_scores(cases, runs)
    folds = cases.groupby("subject")["fold"].nunique()
    if len(straddling := sorted(folds.index[folds > 1])):
        found.append(
            f"Doubtful: {counted(len(straddling), 'subject')} {verb(len(straddling), 'has', 'have')} cases in several folds, so "
            "networks were validated on subjects they were "
            f"trained on, and the scores are too high: {shortened(straddling, 5)}."
        )
    if cases["reference_empty"].all():
        rule = EMPTY_RULES[settings.empty]
        found.append(f"Doubtful: no reference has a lesion, so the scores only reflect false positives. {rule}")
    elif share := empty_share(cases):
        found.append(f"{share} {EMPTY_RULES[settings.empty]}")
    seeds = {arm.title: sum(run.arm == arm for run in runs) for arm in arms}
    if len(set(seeds.values())) > 1:
        listed = ", ".join(f"{title} {n}" for title, n in seeds.items())
        found.append(
            f"The arms have different numbers of seeds, so their scores average over different numbers of runs: {listed}."
        )
    return found


def _summarise(
    arm: Arm, scores: Scores, cases: pd.DataFrame, columns: Sequence[str], settings: CompareSettings
) -> dict[str, object]:
    rows = scores.per_subject[scores.per_subject["arm"] == arm.name]
    of_cases = scores.per_case[scores.per_case["arm"] == arm.name]
    own = cases[cases["arm"] == arm.name]
    miou = mean_iou(own, settings.empty)
    return {
        "arm": arm.name,
        "title": arm.title,
        "source": arm.source or "",
        "n_cases": len(of_cases),
        "n_subjects": len(rows),
        "n_seeds": own["seed"].nunique(dropna=False),
        "dice_median": rows["dice"].median(),
        "dice_sd": rows["dice"].std(),
        "miou_over_cases": miou.over_cases,
        "miou_over_classes": miou.over_classes,
        "miou_pooled": miou.pooled,
        **{column: rows[column].mean() for column in columns},
        **{f"n_with_{column}": int(of_cases[column].notna().sum()) for column in columns},
        **{f"n_subjects_with_{column}": int(rows[column].notna().sum()) for column in columns},
    }


def _ranks(scores: Scores, arms: Sequence[Arm], settings: CompareSettings, *, by_fold: bool) -> pd.DataFrame:
    """Rank the arms; if a fold stands out, the bootstrap draws folds instead of subjects within folds."""
    if len(arms) < 2:
        return pd.DataFrame()
    wide = scores.per_subject.pivot(index=["subject", "fold"], columns="arm", values=PRIMARY)
    index = wide.index.to_frame()
    folds = index["fold"].to_numpy(int)
    drawn = [str(fold) for fold in folds] if by_fold else list(index["subject"])
    clusters = make_clusters(drawn, np.zeros_like(folds) if by_fold else folds)
    values = wide[[arm.name for arm in arms]].to_numpy(float)
    found = rank_stability(values, clusters, draws=settings.draws, seed=settings.seed)
    if found is None:
        return pd.DataFrame()
    counted = scores.per_case[scores.per_case["arm"] == arms[0].name]
    shares = {f"share_{place + 1}": found.shares[:, place] for place in range(len(arms))}
    return pd.DataFrame(
        {
            "arm": [arm.name for arm in arms],
            "title": [arm.title for arm in arms],
            "n_cases": int(counted[PRIMARY].notna().sum()),
            "n_subjects": found.n_rows,
            "rank": found.rank,
            "rank_low": found.low,
            "rank_high": found.high,
            **shares,
            "tau": found.tau,
            "drawn": "folds" if by_fold else "subjects",
        }
    )


def adjust_family(results: Sequence[TargetResult]) -> tuple[TargetResult, ...]:
    """Add `p_holm`, `family` and the verdicts that follow from it.

    The primary family consists of all arms against their baseline on Dice, over all targets; the secondary family of all
    other metrics.
    """
    tables = [
        r.tests.assign(family=np.where(r.tests["metric"] == PRIMARY, PRIMARY_FAMILY, SECONDARY_FAMILY), p_holm=np.nan)
        for r in results
    ]
    for family in (PRIMARY_FAMILY, SECONDARY_FAMILY):
        members = [table["family"] == family for table in tables]
        p = [table.loc[m, "p"].to_numpy(float) for table, m in zip(tables, members, strict=True)]
        adjusted = np.split(holm(np.concatenate(p)), np.cumsum([len(part) for part in p])[:-1])
        for table, member, values in zip(tables, members, adjusted, strict=True):
            table.loc[member, "p_holm"] = values
    judged = [add_verdicts(t, PRIMARY, r.settings, r.failed) for r, t in zip(results, tables, strict=True)]
    return tuple(replace(result, tests=table) for result, table in zip(results, judged, strict=True))
