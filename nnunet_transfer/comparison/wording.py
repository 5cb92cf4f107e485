"""What the report says in words: the outcome of a target, and the methods with their references."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import pandas as pd

from nnunet_transfer import __version__
from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult
from nnunet_transfer.comparison.statistics import FEW_SUBJECTS, LEAST_PAIRS

#: an arm counts as practically equal to the baseline from this probability on
CERTAIN = 0.95
#: packages that the numbers come from
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
    "rope": "Benavoli et al. Time for a change: a tutorial for comparing multiple classifiers through Bayesian analysis. "
    "J Mach Learn Res 2017;18(77):1-36.",
    "nadeau": "Nadeau, Bengio. Inference for the generalization error. Mach Learn 2003;52:239-281. "
    "doi:10.1023/A:1024068626366",
    "levels": "Rao, Wu. Resampling inference with complex survey data. J Am Stat Assoc 1988;83:231-241. "
    "doi:10.1080/01621459.1988.10478591",
    "ranks": "Wiesenfarth et al. Methods and open-source toolkit for analyzing and visualizing challenge results. Sci Rep "
    "2021;11:2369. doi:10.1038/s41598-021-82017-6",
    "bland": "Bland, Altman. Statistical methods for assessing agreement. Lancet 1986;327:307-310. "
    "doi:10.1016/S0140-6736(86)90837-8",
}


def sentence(result: TargetResult) -> str:
    """Say the target's outcome in plain words."""
    best = result.summary.iloc[int(result.summary[PRIMARY].argmax())]
    where = f"{result.n_cases} cases of {result.n_subjects} subjects"
    if not result.summary[PRIMARY].max() > result.summary[PRIMARY].min():
        return f"All arms have the same mean Dice, {best[PRIMARY]:.3f} ({where})."
    text = f"{best['title']} had the highest mean Dice, {best[PRIMARY]:.3f} ({where})"
    first = result.ranks.set_index("arm")["share_1"] if len(result.ranks) else pd.Series(dtype=float)
    text += f"; it comes first in {first[best['arm']]:.0%} of bootstrap samples." if best["arm"] in first else "."
    rows = result.tests[(result.tests["metric"] == PRIMARY)] if len(result.tests) else result.tests
    if not len(rows):
        return text
    if result.n_subjects < FEW_SUBJECTS:
        text += f" With {result.n_subjects} subjects, what follows are hints, not findings."
    better, worse = rows[rows["low"] > 0], rows[rows["high"] < 0]
    failed = result.summary.loc[result.summary[PRIMARY] == 0]
    equal = rows[(rows["p_equivalent"] >= CERTAIN) & ~rows["arm"].isin(failed["arm"])]
    reference = result.title_of(result.baseline)
    if len(better):
        text += f" Better than {reference}, with a 95 % interval that excludes zero: {_listed(better)}."
    else:
        text += f" No arm is better than {reference} with a 95 % interval that excludes zero."
    if len(worse):
        text += f" Worse than {reference}: {_listed(worse)}."
    if len(equal):
        text += f" Practically equal to {reference} (within ±{result.settings.rope:g}): {', '.join(equal['title'])}."
    if len(failed):
        text += f" Segmented nothing right in any case: {', '.join(failed['title'])}."
    return text


def _listed(rows: pd.DataFrame) -> str:
    return ", ".join(
        f"{row['title']} ({row['difference']:+.3f}, {row['low']:+.3f} to {row['high']:+.3f})"
        for _, row in rows.iterrows()
    )


def methods(results: Sequence[TargetResult]) -> tuple[str, list[str]]:
    """Return the methods paragraph, with numbers of references in brackets, and the list of references."""
    cited: list[str] = []

    def cite(key: str) -> str:
        if key not in cited:
            cited.append(key)
        return f"[{cited.index(key) + 1}]"

    settings = results[0].settings
    baseline = results[0].title_of(results[0].baseline)
    targets = "; ".join(
        f"{r.target.title}: {r.n_cases} cases of {r.n_subjects} subjects in {len(r.target.folds)} folds, {len(r.arms)} arms"
        for r in results
    )
    tests = sum(int((r.tests["metric"] == PRIMARY).sum()) for r in results if len(r.tests))
    seeds = sorted({int(n) for r in results for n in r.summary["n_seeds"]})
    runs = "one training run" if seeds == [1] else f"{' or '.join(map(str, seeds))} training runs (seeds)"
    text = [
        f"Arms were trained with nnU-Net {cite('nnunet')} and compared after {cite('study')} by cross-validation with the same "
        f"plans, splits and schedule ({targets}), {runs} per arm and fold.",
        "All scores were computed anew from the masks. A case's Dice and IoU are means over the labels that are present in "
        "reference or prediction, then over seeds; a label absent from both is left out. mIoU is given as the mean over "
        "cases of the mean over classes, as the mean over classes of the mean over cases, and pooled over all voxels. HD95 "
        f"and normalised surface distance {cite('metrics')} count surface voxels; an empty mask against one that is not "
        "costs the image's diagonal and 0.",
        f"Differences to {baseline} are paired by case. Their 95 % intervals are bias-corrected and accelerated bootstrap "
        f"intervals {cite('bca')} over subjects within folds ({settings.draws} draws of n - 1 of n subjects "
        f"{cite('levels')}, seed {settings.seed}). P-values are two-sided, from Wilcoxon's signed-rank test on the subjects' "
        f"mean differences with Pratt's zeros {cite('wilcoxon')}; below {LEAST_PAIRS} subjects none is given. They are "
        f"adjusted by Holm's rule {cite('holm')} over the declared family: every arm against {baseline} on Dice, over all "
        f"targets ({tests} tests). Comparisons between all arms are a second family of each target. Other metrics are "
        f"descriptive and not adjusted. The effect size is the matched-pairs rank-biserial correlation {cite('biserial')}. "
        "The probabilities of being better, equal and worse are those of the Bayesian signed-rank test "
        f"{cite('rope')} with a region of practical equivalence of ±{settings.rope:g}.",
        "These intervals describe the networks at hand. For procedures that are trained anew, the interval is that of a "
        f"two-level bootstrap over training runs and subjects {cite('levels')} where both arms have several seeds, else that "
        f"of the corrected resampled t-test on the means of folds {cite('nadeau')}, which has little power.",
        f"Ranks are those of the mean Dice over complete cases, with intervals from the same bootstrap {cite('ranks')}. "
        f"Agreement of volumes is given as bias and 95 % limits of agreement {cite('bland')}. Pooled lesion detection and "
        "detection by lesion size have intervals over subjects, by Clopper and Pearson where all or nothing was detected.",
        " ".join(dict.fromkeys(n for r in results for n in r.notices if n.startswith(("Subjects", "Nothing says")))),
        f"Software: nnunet_transfer {__version__}, {', '.join(_versions())}, Python {platform.python_version()}.",
    ]
    return " ".join(part for part in text if part), [REFERENCES[key] for key in cited]


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found
