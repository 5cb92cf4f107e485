"""The tables of the report: the columns that they print, in HTML and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from nnunet_transfer.comparison.analysis import PRIMARY, TargetResult, compared_metrics, metric_name
from nnunet_transfer.comparison.folds import named_folds
from nnunet_transfer.comparison.markup import MISSING, Column, number
from nnunet_transfer.words import joined, verb

SUMMARY = {
    "title": Column("Arm"),
    "n_cases": Column("n"),
    "dice": Column("Dice", 3, count="n_with_dice"),
    "dice_median": Column("median", 3),
    "dice_sd": Column("SD over subjects", 3),
    "miou_over_cases": Column("mIoU (cases)", 3),
    "miou_over_classes": Column("mIoU (classes)", 3),
    "miou_pooled": Column("mIoU (pooled)", 3),
    "hd95_mm": Column("HD95 mm", 1, count="n_with_hd95_mm"),
    "nsd": Column("NSD", 3, count="n_with_nsd"),
}
TESTS = {
    "title": Column("Arm"),
    "difference": Column("Difference (95 % interval)", 3, low="headline_low", high="headline_high", sign=True),
    "headline": Column("Interval covers"),
    "n_cases": Column("cases"),
    "n_subjects": Column("subjects"),
    "n_informative": Column("differing subjects"),
    "p": Column("p", 3, p_value=True),
    "p_holm": Column("p (Holm)", 3, p_value=True),
    "rank_biserial": Column("rank-biserial", 2, sign=True),
}
OTHER = {
    "metric": Column("Metric"),
    "title": Column("Arm"),
    "mean": Column("mean", 3),
    "mean_baseline": Column("baseline", 3),
    "difference": Column("Difference (95 % interval)", 3, low="headline_low", high="headline_high", sign=True),
    "headline": Column("Interval covers"),
    "n_subjects": Column("subjects"),
    "n_informative": Column("differing subjects"),
    "p": Column("p", 3, p_value=True),
    "p_holm": Column("p (Holm)", 3, p_value=True),
}
LESION_FREE = {
    "title": Column("Arm"),
    "label": Column("Label"),
    "n_cases": Column("lesion-free cases"),
    "n_with_fp": Column("with false positives"),
    "false_positive_ml": Column(
        "false-positive ml (95 % interval)", 2, low="false_positive_low_ml", high="false_positive_high_ml"
    ),
}
RECIPES = {
    "title": Column("Arm"),
    "recipes": Column("Recipe"),
    "dice": Column("Dice", 3),
    "difference": Column("Difference (95 % interval)", 3, low="headline_low", high="headline_high", sign=True),
    "headline": Column("Interval covers"),
    "p": Column("p", 3, p_value=True),
}
PROCEDURE = {
    "title": Column("Arm"),
    "n_cases": Column("cases"),
    "difference": Column("Difference (95 % interval)", 3, low="procedure_low", high="procedure_high", sign=True),
    "procedure_p": Column("p", 3, p_value=True),
    "procedure": Column("Method"),
}
RANKS = {
    "title": Column("Arm"),
    "n_cases": Column("n"),
    "rank": Column("Rank (95 % interval)", 1, low="rank_low", high="rank_high"),
    "share_1": Column("share ranked first", 2),
}
DETECTION = {
    "title": Column("Arm"),
    "protocol": Column("Protocol"),
    "n_cases": Column("cases"),
    "n_ref": Column("lesions"),
    "n_pred": Column("predicted", 0),
    "sensitivity": Column("Sensitivity (95 % interval)", 3, low="sensitivity_low", high="sensitivity_high"),
    "precision": Column("Precision (95 % interval)", 3, low="precision_low", high="precision_high"),
    "fp_per_case": Column("false positives per case", 1),
}
VOLUMES = {
    "title": Column("Arm"),
    "label": Column("Label"),
    "n_cases": Column("n"),
    "volume_ref_ml": Column("reference ml", 2),
    "bias_ml": Column("bias ml (95 % interval)", 2, low="bias_low_ml", high="bias_high_ml", sign=True),
    "headline": Column("Interval covers"),
    "limit_low_ml": Column("limits of agreement from", 2, sign=True),
    "limit_high_ml": Column("to", 2, sign=True),
    "absolute_ml": Column("mean absolute difference ml", 2),
}
CURVES = {
    "title": Column("Arm"),
    "training_cases": Column("training cases"),
    "n_cases": Column("n"),
    PRIMARY: Column("Dice (95 % interval)", 3, low="low", high="high"),
    "difference": Column(
        "Difference from the baseline of that size", 3, low="difference_low", high="difference_high", sign=True
    ),
}
LENGTHS = {
    "title": Column("Arm"),
    "training_cases": Column("training cases"),
    "iterations": Column("iterations"),
    "share": Column("share of the baseline's", 3),
    "n_cases": Column("n"),
    PRIMARY: Column("Dice (95 % interval)", 3, low="low", high="high"),
    "difference": Column(
        "Difference from the baseline's longest training", 3, low="difference_low", high="difference_high", sign=True
    ),
}


@dataclass(frozen=True)
class Table:
    """A table of one target: its rows, and how to print its columns."""

    name: str
    frame: pd.DataFrame
    columns: dict[str, Column]
    caption: str


def tables(result: TargetResult) -> Iterator[Table]:
    """Yield the tables of a target that aren't empty; differences from several baselines name that of each row."""
    yield from map(_with_baselines, _tables(result))


def _with_baselines(table: Table) -> Table:
    """Return a table with a column for the title of each row's baseline, if its rows have several baselines."""
    if "compared_with_title" not in table.frame or len(set(table.frame["compared_with_title"]) - {""}) < 2:
        return table
    names = {key: column for key, column in table.columns.items() if key in ("metric", "title", "seed")}
    return replace(table, columns={**names, "compared_with_title": Column("Compared with"), **table.columns})


def _tables(result: TargetResult) -> Iterator[Table]:
    where = f"{result.target.title}, {result.size}"
    summary = dict(SUMMARY)
    for protocol in result.protocols:
        for field, word in (("sensitivity", "sensitivity"), ("precision", "precision"), ("f1", "F1")):
            key = f"{protocol.name}_{field}"
            summary[key] = Column(f"{protocol.title} {word}", 3, count=f"n_with_{key}")
    summary = {key: column for key, column in summary.items() if key in result.summary.columns}
    yield Table("summary", result.summary, summary, f"Mean over subjects: {where}.")
    reference = result.baseline_title
    if len(result.tests):
        for metric in compared_metrics(result.protocols):
            rows = result.tests[result.tests["metric"] == metric]
            # only the declared family has adjusted p-values
            columns = {key: column for key, column in TESTS.items() if rows[key].notna().any()}
            caption = f"{metric_name(result, metric)}, paired difference from {reference}: {where}."
            yield Table(f"tests_{metric}", rows, columns, caption)
        yield from _secondary(result, reference, where)
        primary = result.tests[result.tests["metric"] == PRIMARY]
        caption = f"Dice difference from {reference} if both arms were trained again: {where}."
        if primary["procedure_low"].notna().any():
            yield Table("procedure", primary, PROCEDURE, caption)
    yield _folds(result, where)
    if len(result.lesion_free):
        counts = {f"{p.name}_fp_per_case": Column(f"{p.title} false lesions per case", 1) for p in result.protocols}
        caption = f"False positives where the reference is empty: {where}."
        yield Table("lesion_free", result.lesion_free, LESION_FREE | counts, caption)
    if len(result.ranks):
        yield Table("ranks", result.ranks.sort_values("rank", kind="stable"), RANKS, f"Ranks by mean Dice: {where}.")
    if len(result.detection):
        titles = {p.name: p.title for p in result.protocols}
        detection = result.detection.assign(protocol=result.detection["protocol"].map(titles))
        over = ["seeds"] if result.summary["n_seeds"].max() > 1 else []
        over += ["each subject's scans"] if result.n_cases > result.n_subjects else []
        means = f"; numbers are means over {joined(over)}" if over else ""
        yield Table("detection", detection, DETECTION, f"Lesion detection pooled over subjects{means}: {where}.")
    yield Table("volumes", result.volumes, VOLUMES, f"Predicted minus reference volume: {where}.")
    if len(result.curves):
        yield Table(
            "curves", _against(result.curves, "baseline"), CURVES, f"Dice by number of training cases: {where}."
        )
    if len(result.lengths):
        yield Table("lengths", _against(result.lengths, "baseline"), LENGTHS, f"Dice by length of training: {where}.")
    if len(result.recipes):
        caption = (
            f"Each arm with the recipe that scored best on the other folds: {where}. In parentheses: number of folds."
        )
        controls = list(result.recipes.loc[result.recipes["arm"].isin(result.recipes["compared_with"]), "title"])
        if controls:
            which, whose = ("controls are", "their recipes") if len(controls) > 1 else ("control is", "its recipe")
            caption += f" The {which} {joined(controls)}, with {whose} chosen in the same way."
        yield Table("recipes", _against(result.recipes, "compared_with"), RECIPES, caption)


def _against(frame: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return a table with the titles of its rows' baselines, which are rows of it, too; empty for rows without a difference.

    Parameters
    ----------
    baseline : column with the names of the baselines
    """
    titles = dict(zip(frame["arm"], frame["title"], strict=True))
    known = frame[baseline].where(frame["difference"].notna(), "")
    return frame.assign(compared_with_title=[titles.get(name, name) for name in known])


def _folds(result: TargetResult, where: str) -> Table:
    """Return the mean Dice of each arm and seed, with one column per fold."""
    folds = result.folds
    columns = {"title": Column("Arm"), "seed": Column("Seed")}
    for fold, own in folds.groupby("fold"):
        counts = sorted(set(own["n_subjects"]))
        columns[f"fold_{fold}"] = Column(
            f"Fold {fold}, n = {' to '.join(map(str, counts[:: max(1, len(counts) - 1)]))}"
        )
    rows = []
    for (arm, title, seed), own in folds.groupby(["arm", "title", "seed"], sort=False):
        means = {f"fold_{row.fold}": _mean_of_fold(row) for _, row in own.iterrows()}
        odd = own.loc[own["outlier"], "fold"].tolist()
        note = f"{named_folds(odd)} {verb(len(odd), 'stands', 'stand')} out" if odd else ""
        # a row with a difference has a baseline, which is another arm
        against = result.title_of(result.baselines[str(arm)]) if own["difference"].notna().any() else ""
        rows.append({"arm": arm, "title": title, "seed": seed, "compared_with_title": against, **means, "note": note})
    frame = pd.DataFrame(rows)
    if (frame["seed"] == "all").all():
        del columns["seed"]
    if frame["note"].any():
        columns["note"] = Column("note")
    known = "; in parentheses: difference from the baseline" if folds["difference"].notna().any() else ""
    return Table("folds", frame.fillna(MISSING), columns, f"Mean Dice by fold{known}: {where}.")


def _mean_of_fold(row: pd.Series) -> str:
    mean = number(row[PRIMARY], Column("", 3))
    return mean if pd.isna(row["difference"]) else f"{mean} ({number(row['difference'], Column('', 3, sign=True))})"


def _secondary(result: TargetResult, reference: str, where: str) -> Iterator[Table]:
    """Yield the differences in the metrics without a separate table."""
    rows = result.tests[~result.tests["metric"].isin(compared_metrics(result.protocols))]
    if len(rows):
        titles = [metric_name(result, metric) for metric in rows["metric"]]
        yield Table(
            "tests_other",
            rows.assign(metric=titles),
            OTHER,
            f"Other metrics, paired difference from {reference}: {where}.",
        )
