"""From scores of cases to scores of subjects: labels first, then seeds, then a subject's scans.

Volumes and counts of lesions are summed over labels, all other scores averaged.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Scores:
    """Scores of one target, averaged over labels, or summed. All estimates in the report are means over subjects.

    Attributes
    ----------
    per_case : one row per arm and case, averaged over seeds
    per_subject : one row per arm and subject, averaged also over the subject's scans
    per_run : one row per arm, subject and seed
    train_sizes, test_sizes : fold -> number of training cases, and of compared cases
    """

    per_case: pd.DataFrame
    per_subject: pd.DataFrame
    per_run: pd.DataFrame
    train_sizes: Mapping[int, int]
    test_sizes: Mapping[int, int]

    @property
    def ratios(self) -> dict[int, float]:
        """Fold -> compared cases divided by training cases; folds without training cases are omitted."""
        return {fold: n / self.train_sizes[fold] for fold, n in self.test_sizes.items() if self.train_sizes[fold]}

    def of(self, arms: Sequence[str]) -> Scores:
        """Return the scores of some arms."""
        frames = [
            f[f["arm"].isin(arms)].reset_index(drop=True) for f in (self.per_case, self.per_subject, self.per_run)
        ]
        return Scores(frames[0], frames[1], frames[2], self.train_sizes, self.test_sizes)


def average_scores(
    cases: pd.DataFrame, columns: Sequence[str], train_sizes: Mapping[int, int], totals: Collection[str] = ()
) -> Scores:
    """Average a table with one row per run, case and label.

    A subject's fold is that of its first case.

    Parameters
    ----------
    columns : the scores to average; missing values are left out
    train_sizes : fold -> number of training cases
    totals : those of the scores that are summed over labels
    """
    wanted, summed = list(columns), [column for column in columns if column in totals]
    cases = with_subject_folds(cases)
    labels = cases.groupby(["arm", "case", "subject", "site", "fold", "seed"], sort=False, dropna=False)
    per_seed = labels[wanted].mean()
    if summed:
        # a total of missing values is missing, not 0
        per_seed[summed] = labels[summed].sum(min_count=1).to_numpy(float)
    per_case = per_seed.groupby(level=["arm", "case", "subject", "site", "fold"], sort=False).mean()
    per_run = per_seed.groupby(level=["arm", "subject", "fold", "seed"], sort=False, dropna=False).mean()
    per_subject = per_case.groupby(level=["arm", "subject", "fold"], sort=False).mean()
    sizes = cases.groupby("fold")["case"].nunique()
    test_sizes = dict(zip(sizes.index.to_numpy(int).tolist(), sizes.tolist(), strict=True))
    return Scores(
        per_case.reset_index(), per_subject.reset_index(), per_run.reset_index(), dict(train_sizes), test_sizes
    )


def with_subject_folds(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the table with one fold per subject, that of its first case."""
    first = cases.drop_duplicates("subject").set_index("subject")["fold"]
    return cases.assign(fold=cases["subject"].map(first).to_numpy(int))


def subject_sums(cases: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Sum counts of a case's labels, then average over seeds and over a subject's scans.

    Returns
    -------
    DataFrame
        Indexed by `keys`, subject and fold.
    """
    per_seed = with_subject_folds(cases).groupby([*keys, "case", "subject", "fold", "seed"], sort=False, dropna=False)
    sums = per_seed[list(columns)].sum()
    per_case = sums.groupby(level=[*keys, "case", "subject", "fold"], sort=False).mean()
    return per_case.groupby(level=[*keys, "subject", "fold"], sort=False).mean()
