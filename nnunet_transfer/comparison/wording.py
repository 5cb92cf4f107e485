"""What the report says in words: the outcome of a target, and the methods with their references."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

import pandas as pd

from nnunet_transfer import __version__
from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult, metric_name
from nnunet_transfer.comparison.curves import reached
from nnunet_transfer.comparison.folds import LEAST_SEED, NO_SEED, Outlier, named_folds
from nnunet_transfer.comparison.markup import Column, number
from nnunet_transfer.comparison.same_plans import DIFFERENT_CASES, DIFFERENT_PLANS, DIFFERENT_SPLITS
from nnunet_transfer.comparison.spread import LEAST_FOLD, OUTLIER_LEVEL
from nnunet_transfer.comparison.statistics import ALPHA, EXACT_PAIRS, FEW_SUBJECTS, LEAST_INFORMATIVE, LEAST_PAIRS
from nnunet_transfer.comparison.verdicts import (
    BETTER,
    EQUAL,
    NETWORKS_ONLY,
    OPEN,
    PRINTED_DECIMALS,
    PROCEDURE,
    WORSE,
    direction,
    printed,
)
from nnunet_transfer.evaluation.empties import EMPTY_RULES
from nnunet_transfer.naming import TrainerName, is_ours
from nnunet_transfer.words import counted, joined, verb

#: verdict and its scope -> sentence; weaker wording for few subjects
MANY = {
    (BETTER, PROCEDURE): "Better than {reference}, also if trained again",
    (BETTER, NETWORKS_ONLY): "These networks scored higher than those of {reference}",
    (WORSE, PROCEDURE): "Worse than {reference}, also if trained again",
    (WORSE, NETWORKS_ONLY): "These networks scored lower than those of {reference}",
    (EQUAL, PROCEDURE): "Practically equal to {reference} (interval within {rope}), also if trained again",
    (EQUAL, NETWORKS_ONLY): "These networks are practically equal to those of {reference} (interval within {rope})",
}
FEW = {
    BETTER: "Dice was higher than in {reference}",
    WORSE: "Dice was lower than in {reference}",
    EQUAL: "Dice was within {rope} of that in {reference}",
}
#: beginnings of the sentences on subjects, see `nnunet_transfer.subjects.find_origin`
SUBJECT_STATEMENTS = ("Subjects were read", "The case names don't", "The conversion manifest names no")
#: beginnings of the notices to print before the verdict
CAVEATS = ("Only ", "The arms have different", "summary.json", "Doubtful: ")
#: packages that compute the numbers
PACKAGES = ("nnunetv2", "numpy", "scipy", "pandas", "connected-components-3d")

REFERENCES: dict[str, str] = {
    "nnunet": "Isensee et al. nnU-Net. Nat Methods 2021;18:203-211. doi:10.1038/s41592-020-01008-z",
    "study": "Zoetmulder et al. Domain- and task-specific transfer learning for medical segmentation tasks. Comput Methods "
    "Programs Biomed 2022;214:106539. doi:10.1016/j.cmpb.2021.106539",
    "metrics": "Maier-Hein et al. Metrics reloaded. Nat Methods 2024;21:195-212. doi:10.1038/s41592-023-02151-z",
    "bca": "Efron. Better bootstrap confidence intervals. J Am Stat Assoc 1987;82:171-185. "
    "doi:10.1080/01621459.1987.10478410",
    "wilcoxon": "Pratt. Remarks on zeros and ties in the Wilcoxon signed rank procedures. J Am Stat Assoc 1959;54:655-667. "
    "doi:10.1080/01621459.1959.10501526",
    "holm": "Holm. A simple sequentially rejective multiple test procedure. Scand J Stat 1979;6:65-70.",
    "biserial": "Kerby. The simple difference formula. Compr Psychol 2014;3:11.IT.3.1. doi:10.2466/11.IT.3.1",
    "nadeau": "Nadeau, Bengio. Inference for the generalization error. Mach Learn 2003;52:239-281. "
    "doi:10.1023/A:1024068626366",
    "levels": "Rao, Wu. Resampling inference with complex survey data. J Am Stat Assoc 1988;83:231-241. "
    "doi:10.1080/01621459.1988.10478591",
    "ranks": "Wiesenfarth et al. Methods and open-source toolkit for analyzing and visualizing challenge results. Sci Rep "
    "2021;11:2369. doi:10.1038/s41598-021-82017-6",
    "bland": "Bland, Altman. Statistical methods for assessing agreement. Lancet 1986;327:307-310. "
    "doi:10.1016/S0140-6736(86)90837-8",
}


def caveats(result: TargetResult) -> list[str]:
    """Return what a reader must know before the verdict."""
    found = [notice for notice in result.notices if notice.startswith(CAVEATS)]
    if len(result.arms) > 1 and 0 < result.n_counted < FEW_SUBJECTS:
        tests = "no p-values are given" if result.n_counted < LEAST_PAIRS else "the tests have little power"
        found.append(f"Only {counted(result.n_counted, 'subject')}: {tests}. Treat the results as hints, not findings.")
    return found


def sentence(result: TargetResult) -> str:
    """Describe the outcome of a target: what stands out first, then one verdict per arm."""
    parts = [
        *_odd_trainings(result),
        _highest(result),
        *_verdicts(result),
        *_detection(result),
        _failures(result),
        _false_positives(result),
    ]
    return " ".join(part for part in parts if part)


def _odd_trainings(result: TargetResult) -> Iterator[str]:
    seeds = [outlier for outlier in result.outliers if outlier.seed is not None]
    whole = [outlier for outlier in result.outliers if outlier.seed is None]
    counts = Counter(outlier.fold for outlier in whole)
    common = sorted(fold for fold, count in counts.items() if count == len(result.arms) > 1)
    if common:
        verb, whose = ("stand", "their") if len(common) > 1 else ("stands", "its")
        yield f"{named_folds(common)} {verb} out in every arm; check {whose} cases and training."
    # a fold of which a seed stands out is named by the seed
    by_seed = {(outlier.arm, outlier.fold) for outlier in seeds}
    left = [o for o in whole if o.fold not in common and (o.arm, o.fold) not in by_seed]
    yield from _odd_folds(result, left)
    yield from _odd_seeds(result, seeds)


def _odd_folds(result: TargetResult, outliers: Sequence[Outlier]) -> Iterator[str]:
    """Name all folds that stand out in some but not all arms, in one sentence."""
    by_arm: dict[str, list[Outlier]] = {}
    for outlier in sorted(outliers, key=lambda o: o.fold):
        by_arm.setdefault(outlier.arm, []).append(outlier)
    if not by_arm:
        return
    titles = {arm.name: arm.title for arm in result.arms}
    found = {arm: [o.fold for o in odd] for arm, odd in by_arm.items()}
    means = {
        arm: f"mean Dice {joined([f'{o.mean:.3f}' for o in odd])}, other folds {odd[0].others:.3f}"
        for arm, odd in by_arm.items()
    }
    # a training is never too good: if a fold scores higher, suspect its cases first
    what = "training" if all(o.mean < o.others for o in outliers) else "training and cases"
    if len({tuple(folds) for folds in found.values()}) == 1:
        folds = next(iter(found.values()))
        listed = ", ".join(f"{titles[arm]} ({means[arm]})" for arm in by_arm)
        verb, whose = ("stand", "their") if len(folds) > 1 else ("stands", "its")
        yield f"{named_folds(folds)} {verb} out; check {whose} {what}: {listed}."
        return
    listed = ", ".join(f"{named_folds(found[arm]).lower()} of {titles[arm]} ({means[arm]})" for arm in by_arm)
    yield f"Some folds stand out; check their {what}: {listed}."


def _odd_seeds(result: TargetResult, outliers: Sequence[Outlier]) -> Iterator[str]:
    """Name all seeds that stand out in single folds, in one sentence."""
    titles = {arm.name: arm.title for arm in result.arms}
    named = [
        f"{_seed_name(o.seed)} in fold {o.fold} of {titles[o.arm]} (mean Dice {o.mean:.3f}, other seeds {o.others:.3f})"
        for o in sorted(outliers, key=lambda o: (o.arm, o.fold, o.seed or 0))
        if o.seed is not None
    ]
    if len(named) == 1:
        yield f"One training stands out; check it: {named[0]}."
    elif named:
        yield f"{len(named)} trainings stand out; check them: {', '.join(named)}."


def _seed_name(seed: int) -> str:
    return "the run without a seed" if seed == NO_SEED else f"seed {seed}"


def _highest(result: TargetResult) -> str:
    means = result.summary[PRIMARY].map(printed)
    if means.isna().all():
        every = counted(result.n_subjects, "subject")
        return f"Dice is undefined for all arms: no reference contains a lesion ({every})."
    counts = _share(result.n_counted, result.n_subjects, "subject")
    if result.n_cases != result.n_subjects:
        counts += f", {_share(result.n_scored, result.n_cases, 'scan')}"
    if left := result.n_cases - result.n_scored:
        counts += f", the {verb(left, 'other has', 'others have')} no lesion"
    if len(result.arms) == 1:
        only = "the only arm"
        if len(result.cases) and result.cases["arm"].nunique() > 1:
            number = result.arms[0].trainer.cases
            only += f" trained on {'all cases' if number is None else counted(number, 'case')}"
        return f"{result.summary['title'].iloc[0]} is {only}: mean Dice {means.iloc[0]:.3f} ({counts})."
    best = result.summary.loc[means == means.max(), "title"]
    if len(best) == len(means):
        return f"All arms have the same mean Dice, {means.max():.3f} ({counts})."
    failed = [title for title in best if title in _failed(result)]
    but = (
        f", although {joined(failed)} {verb(len(failed), 'has', 'have')} no correct voxel in any case" if failed else ""
    )
    return f"{' and '.join(best)} had the highest mean Dice, {means.max():.3f} ({counts}){but}."


def _share(part: int, whole: int, noun: str) -> str:
    """Return "24 subjects" or, if not all count, "16 of 24 subjects"."""
    return counted(whole, noun) if part == whole else f"{part} of {counted(whole, noun)}"


def _verdicts(result: TargetResult) -> Iterator[str]:
    rows = result.tests[result.tests["metric"] == PRIMARY]
    if not len(rows) or not result.n_counted:
        return
    rope = f"±{result.settings.rope:g}"
    judged = rows[~rows["arm"].isin(result.failed)]
    few = result.n_counted < FEW_SUBJECTS
    for scopes in [(PROCEDURE, NETWORKS_ONLY)] if few else [(PROCEDURE,), (NETWORKS_ONLY,)]:
        for outcome in (BETTER, WORSE, EQUAL):
            chosen = judged[(judged["verdict"] == outcome) & judged["scope"].isin(scopes)]
            template = FEW[outcome] if few else MANY[outcome, scopes[0]]
            for reference, own in _by_reference(result, chosen):
                yield f"{template.format(reference=reference, rope=rope)}: {_listed(own)}."
    undecided = judged[judged["verdict"] == OPEN]
    # as printed, because readers compare the printed numbers with 0 and 0.05
    low, high, p = (undecided[c].map(printed) for c in ("headline_low", "headline_high", "p_holm"))
    excludes = (low > 0) | (high < 0)
    untested = excludes & p.isna()
    mixed = (excludes & ~untested) | (p < ALPHA)
    for reference, own in _by_reference(result, undecided[mixed]):
        yield f"Unclear compared with {reference}, because interval and test disagree: {_listed(own)}."
    for reference, own in _by_reference(result, undecided[untested]):
        yield f"Too few subjects differ from {reference} for a test: {_listed(own)}."
    for reference, own in _by_reference(result, undecided[~(mixed | untested)]):
        yield f"A difference from {reference} is neither shown nor ruled out: {_listed(own)}."


def _by_reference(result: TargetResult, rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the rows of each baseline, and what sentences call it."""
    for reference, own in rows.groupby(rows["arm"].map(result.reference_of), sort=False):
        yield str(reference), own


def _detection(result: TargetResult) -> Iterator[str]:
    """Name the arms whose lesion F1 differs from the baseline's and whose Dice doesn't, or differs the other way."""
    if not len(result.tests):
        return
    judged = result.tests[~result.tests["arm"].isin(result.failed)]
    dice = judged[judged["metric"] == PRIMARY].set_index("arm")["verdict"]
    for metric in (f"{protocol.name}_f1" for protocol in result.protocols):
        rows = judged[judged["metric"] == metric]
        shown = [direction(row) for row in rows.to_dict("records")]
        for outcome, word in ((BETTER, "higher"), (WORSE, "lower")):
            chosen = rows[(pd.Series(shown, rows.index, dtype=object) == outcome) & (rows["arm"].map(dice) != outcome)]
            for reference, own in _by_reference(result, chosen):
                where = f"{word} than in {reference}, which Dice doesn't show"
                yield f"{metric_name(result, metric)} was {where}: {_listed(own)}."


def _failures(result: TargetResult) -> str:
    failed = _failed(result)
    return f"No correct voxel in any case: {', '.join(failed)}." if failed else ""


def _failed(result: TargetResult) -> list[str]:
    """Return the titles of the arms without a correct voxel, whose empty predictions may score 1 on empty references."""
    return [arm.title for arm in result.arms if arm.name in result.failed]


def _false_positives(result: TargetResult) -> str:
    """Say in how many lesion-free cases each arm has false positives, if the arms differ in this."""
    table = result.lesion_free
    if not len(table) or table.groupby("label")["n_with_fp"].nunique().max() < 2:
        return ""
    parts = []
    for label, rows in table.groupby("label", sort=False):
        what = f" ({label})" if table["label"].nunique() > 1 else ""
        counts = ", ".join(f"{row['title']} in {row['n_with_fp']}" for _, row in rows.iterrows())
        where = counted(int(rows["n_cases"].iloc[0]), "lesion-free case")
        parts.append(f"False positives in {where}{what}: {counts}.")
    return " ".join(parts)


def length_sentences(result: TargetResult) -> list[str]:
    """Return, for each arm with several lengths of training, when it reaches the longest training of its baseline."""
    found = []
    several = result.lengths["training_cases"].nunique() > 1
    # empty predictions reach the baseline where most references are empty
    judged = result.lengths.assign(difference=lambda t: t["difference"].where(~t["arm"].isin(result.failed)))
    for arm in reached(judged):
        where = f", {counted(round(arm.training_cases), 'training case')}" if several else ""
        whole = f"{arm.baseline} after {_iterations(arm.baseline_iterations)}"
        if arm.iterations is None:
            found.append(f"{arm.title}{where}: with no length of training is the mean Dice at least that of {whole}.")
            continue
        share = f" ({arm.iterations / arm.baseline_iterations:.3g} of the baseline's)"
        after = f"{_iterations(arm.iterations)}{share if arm.iterations != arm.baseline_iterations else ''}"
        found.append(f"{arm.title}{where}: after {after} the mean Dice is at least that of {whole}.")
    return found


def _iterations(number: int) -> str:
    return f"{number:,} {verb(number, 'iteration', 'iterations')}"


def _listed(rows: pd.DataFrame) -> str:
    column, p = Column("", PRINTED_DECIMALS, sign=True), Column("", PRINTED_DECIMALS, p_value=True)

    def numbers(row: pd.Series) -> str:
        found = number(row["difference"], column)
        if not math.isnan(row["headline_low"]):
            found += f", {number(row['headline_low'], column)} to {number(row['headline_high'], column)}"
        if not math.isnan(row["p_holm"]):
            shown = number(row["p_holm"], p)
            found += f", p {shown}" if shown.startswith("<") else f", p = {shown}"
        return found

    return ", ".join(f"{row['title']} ({numbers(row)})" for _, row in rows.iterrows())


def methods(results: Sequence[TargetResult]) -> tuple[str, list[str]]:
    """Return the methods paragraph, with numbered citations, and the list of references."""
    cited: list[str] = []

    def cite(key: str) -> str:
        if key not in cited:
            cited.append(key)
        return f"[{cited.index(key) + 1}]"

    compared = [r for r in results if len(r.tests)]
    text = [
        _design(results, cite),
        *_scoring(results, cite),
        *(_differences(compared, cite) if compared else ()),
        f"Agreement of volumes is given as bias and 95 % limits of agreement {cite('bland')}. Intervals of pooled lesion "
        "detection and of detection by lesion size are over subjects; if all or no lesions were detected, they are Clopper "
        "and Pearson's.",
        " ".join(dict.fromkeys(n for r in results for n in r.notices if n.startswith(SUBJECT_STATEMENTS))),
        f"Software: nnunet_transfer {__version__}, {', '.join(_versions())}, Python {platform.python_version()}.",
    ]
    return " ".join(part for part in text if part), [REFERENCES[key] for key in cited]


def _design(results: Sequence[TargetResult], cite: Callable[[str], str]) -> str:
    targets = "; ".join(
        f"{r.target.title}: {r.size} in {counted(r.n_folds, 'fold')}, {counted(len(r.arms), 'arm')}" for r in results
    )
    seeds = _seeds(results)
    runs = "one training run" if seeds == [1] else f"{' or '.join(map(str, seeds))} training runs (seeds)"
    common = _in_common(results)
    return (
        f"Arms were trained with nnU-Net {cite('nnunet')} and compared by cross-validation, following {cite('study')}, with "
        f"{f'the same {joined(common)}' if common else 'settings of their own'} ({targets}) and {runs} per arm and fold."
    )


def _scoring(results: Sequence[TargetResult], cite: Callable[[str], str]) -> Iterator[str]:
    settings = results[0].settings
    several = any(len(r.target.label_set.labels) > 1 for r in results)
    totals = (
        " (for volumes and numbers of lesions, but not for differences in them, the sum; labels inside others add nothing)"
        if several
        else ""
    )
    yield (
        f"All scores were computed from the masks. The score of a case is the mean over labels{totals}, then over seeds; the "
        "score of a subject is the mean over its scans. Means, differences, tests and ranks are computed over subjects. "
        f"{EMPTY_RULES[settings.empty]} The reference alone therefore decides whether a case counts, for all arms alike. "
        "mIoU is given as the mean over "
        "subjects of the mean over classes, as the mean over classes of the mean over subjects, and pooled over all voxels."
    )
    if settings.surface:
        yield (
            f"HD95 and normalised surface distance (NSD) {cite('metrics')} are computed on surface voxels; if only one of the "
            "two masks is empty, HD95 is the image's diagonal and NSD is 0."
        )


def _differences(results: Sequence[TargetResult], cite: Callable[[str], str]) -> Iterator[str]:
    settings, baseline = results[0].settings, _baselines(results)
    # a difference without a p-value is in no family
    tested = [r.tests.loc[r.tests["p"].notna(), "metric"] == PRIMARY for r in results]
    tests, others = (sum(int((primary == wanted).sum()) for primary in tested) for wanted in (True, False))
    yield (
        f"Differences from {baseline} are paired by subject. Their 95 % intervals are bias-corrected and accelerated "
        f"bootstrap intervals {cite('bca')} over subjects within folds ({settings.draws} draws of n - 1 of n subjects "
        f"{cite('levels')}, seed {settings.seed}). P-values are two-sided and come from the signed-rank test on the "
        f"subjects' differences, with zeros handled as by Pratt {cite('wilcoxon')}. The test is exact, over all sign flips, "
        f"for up to {EXACT_PAIRS} subjects that differ, and uses the normal approximation for more. No p-value is given "
        f"for fewer than {LEAST_PAIRS} subjects, or fewer than {LEAST_INFORMATIVE} that differ. P-values are adjusted by "
        f"Holm's method {cite('holm')} in two families: every arm "
        f"against {baseline} on Dice, over all targets ({counted(tests, 'test')}), which the verdicts rest on; and all "
        f"other metrics ({counted(others, 'test')}). The comparisons between all arms are a separate family for each "
        f"target. The effect size is the matched-pairs rank-biserial correlation {cite('biserial')}. An arm is called "
        f"practically equal if its interval lies within ±{settings.rope:g}; otherwise it is called better or worse if its "
        "adjusted p is below 0.05, its interval excludes zero, and interval and effect size have the same sign."
    )
    yield (
        "These intervals describe the networks at hand. For networks trained again, the interval comes from a "
        f"two-level bootstrap over training runs and subjects {cite('levels')} if both arms have several seeds, and "
        f"otherwise from the corrected resampled t-test on the means of folds {cite('nadeau')}, which has little power. A "
        "fold stands out if its mean difference is further from the median of all folds than the spread between subjects "
        f"explains (p < {OUTLIER_LEVEL:g}, Bonferroni-adjusted over folds; for scores from 0 to 1 also by more than "
        f"{LEAST_FOLD:g}); the quoted interval then also covers the spread between folds."
    )
    if _seeds(results) != [1]:
        yield (
            "If the Dice of a seed stands out in a fold in the same way, by more than "
            f"{LEAST_SEED:g} from the fold's other seeds, every quoted interval of its arm also covers that for networks "
            "trained again."
        )
    yield (
        f"Arms are ranked by mean Dice, with intervals from the same bootstrap {cite('ranks')}, which draws whole folds "
        "if one stands out."
    )


def _seeds(results: Sequence[TargetResult]) -> list[int]:
    """Return the numbers of seeds that arms have."""
    return sorted({int(n) for r in results for n in r.summary["n_seeds"]})


def _baselines(results: Sequence[TargetResult]) -> str:
    """Return the baseline of all targets, or of each if they differ."""
    titles = {result.target.title: result.baseline_title for result in results}
    if len(set(titles.values())) < 2:
        return next(iter(titles.values()), "")
    return joined([f"{title} ({target})" for target, title in titles.items()], "or")


def _in_common(results: Sequence[TargetResult]) -> list[str]:
    """Return what was the same in all trainings of each target."""
    plans, splits = (
        not any(notice.startswith(beginnings) for result in results for notice in result.notices)
        for beginnings in (DIFFERENT_PLANS, (DIFFERENT_SPLITS, DIFFERENT_CASES))
    )
    schedule = all(len({_schedule(arm.trainer) for arm in result.arms}) == 1 for result in results)
    return [name for name, same in (("plans", plans), ("splits", splits), ("schedule", schedule)) if same]


def _schedule(trainer: TrainerName) -> tuple[str, int]:
    # the schedule of other trainers isn't known
    return (trainer.recipe if is_ours(trainer.base) else trainer.base, trainer.total_iterations)


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
