"""Say how well each measure of `sources rank` foresees the Dice that the sources reach after fine-tuning.

    python ranking.py STUDY RANKINGS

STUDY is the folder of a finished study, whose comparison of each target wrote a `cases.csv`. RANKINGS holds the tables of
`sources rank -f FOLD -o`, one per target and fold, named `<target>_f<fold>.csv`: a ranking sees the training cases of its
fold, the Dice is that of its validation cases.

In each target and fold the sources' scores and their Dice are compared by the weighted Kendall's tau of
`nnunet_transfer.ranking.measures`, in which the best sources count most. The mean over targets and folds is printed with
a 95 % interval of a bootstrap over sources and, within each target and fold, over subjects.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_transfer.naming import ARMS
from nnunet_transfer.ranking.measures import mean_ranks, weighted_kendall

MEASURES = ("Dice", "lesion F1", "LogME", "GBC", "LEEP", "CC-FV", "GRTD", "LBTC", "TopoTE", "mean rank elsewhere")
DRAWS = 1000
#: a ranking of two sources says nothing
FEWEST_SOURCES = 3


def read_outcomes(study: Path) -> pd.DataFrame:
    """Return one row per target, fold, source and subject: Dice, the mean over the subject's structures and scans."""
    tables = []
    for path in sorted((study / "comparison").glob("*/cases.csv")):
        table = pd.read_csv(path)
        tables.append(table.assign(target=path.parent.name))
    cases = pd.concat(tables)
    scores = cases.groupby(["target", "fold", "arm", "subject"], as_index=False)["dice"].mean()
    scores["source"] = scores["arm"].map(source_of)
    return scores[scores["source"] != "scratch"]


def source_of(arm: str) -> str:
    """Return the source of an arm, `nnUNetTrainerT1Segmentation` -> `t1_segmentation`; what follows an @ is a source."""
    trainer, at, source = arm.partition("@")
    base = trainer.split("_")[0]
    return source if at else ARMS[base] or "scratch"


def read_rankings(folder: Path) -> pd.DataFrame:
    """Return one row per target, fold and source, one column per measure."""
    tables = []
    for path in sorted(folder.glob("*_f*.csv")):
        target, fold = path.stem.rsplit("_f", 1)
        tables.append(pd.read_csv(path).assign(target=target, fold=int(fold)))
    ranks = pd.concat(tables)
    return ranks[ranks["source"] != "(random)"]


def add_elsewhere(ranks: pd.DataFrame, dice: pd.DataFrame) -> pd.DataFrame:
    """Add minus the mean rank that each source's fine-tuned Dice has on the other targets."""
    table = dice.groupby(["source", "target"])["dice"].mean().unstack("target")
    found = [
        pd.DataFrame({"source": table.index, "target": t, "mean rank elsewhere": mean_ranks(table.to_numpy(), i)})
        for i, t in enumerate(table.columns)
    ]
    return ranks.drop(columns="mean rank elsewhere", errors="ignore").merge(pd.concat(found), on=["source", "target"])


def mean_tau(ranks: pd.DataFrame, dice: pd.DataFrame, measures: Iterable[str]) -> dict[str, float]:
    """Return each measure's weighted tau, the mean over targets and folds in which it has values."""
    outcome = dice.groupby(["target", "fold", "source"], as_index=False)["dice"].mean()
    table = ranks.merge(outcome, on=["target", "fold", "source"])
    result = {}
    for measure in measures:
        taus = []
        for _, cell in table.dropna(subset=[measure]).groupby(["target", "fold"]):
            if cell["source"].nunique() >= FEWEST_SOURCES:
                taus.append(weighted_kendall(cell[measure].tolist(), cell["dice"].tolist()))
        result[measure] = float(np.mean(taus)) if taus else float("nan")
    return result


def draw(
    ranks: pd.DataFrame, dice: pd.DataFrame, sources: list[str], rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Draw sources, the same ones everywhere, and in each target and fold subjects, both with replacement.

    A source that is drawn twice counts once: its tie with itself would be neither right nor wrong.
    """
    while len(chosen := set(rng.choice(sources, len(sources)))) < FEWEST_SOURCES:
        pass
    parts = []
    for _, cell in dice[dice["source"].isin(chosen)].groupby(["target", "fold"]):
        subjects = cell["subject"].unique()
        drawn = pd.DataFrame({"subject": rng.choice(subjects, len(subjects))})
        parts.append(drawn.merge(cell, on="subject"))
    return ranks[ranks["source"].isin(chosen)], pd.concat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("rankings", type=Path)
    args = parser.parse_args()
    dice, ranks = read_outcomes(args.study), read_rankings(args.rankings)
    ranks = add_elsewhere(ranks, dice)
    sources = sorted(set(ranks["source"]) & set(dice["source"]))
    measures = [m for m in MEASURES if m in ranks and ranks[m].notna().any()]
    points = mean_tau(ranks, dice, measures)
    rng = np.random.default_rng(0)
    drawn = pd.DataFrame([mean_tau(*draw(ranks, dice, sources, rng), measures) for _ in range(DRAWS)])
    pairs = ranks[["source", "target"]].merge(dice[["source", "target"]]).drop_duplicates()
    print(f"{len(sources)} sources, {pairs['target'].nunique()} targets: {len(pairs)} pairs\n")
    print("| measure | weighted tau | 95 % interval | " + " | ".join(names := sorted(ranks["target"].unique())) + " |")
    print("|---" * (3 + len(names)) + "|")
    for measure in measures:
        low, high = np.nanpercentile(drawn[measure], [2.5, 97.5])
        own = [mean_tau(ranks[ranks["target"] == t], dice[dice["target"] == t], [measure])[measure] for t in names]
        cells = " | ".join("–" if np.isnan(value) else f"{value:+.2f}" for value in own)
        numbers = f"{points[measure]:+.2f} | {low:+.2f} to {high:+.2f} | {cells}".replace("-", "−")
        print(f"| {measure} | {numbers} |")


if __name__ == "__main__":
    main()
