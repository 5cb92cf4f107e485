"""Folds of a converted data set: how they are dealt, and `install-splits`."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_transfer.cli import main
from nnunet_transfer.conversion.record import Record
from nnunet_transfer.conversion.splits import deal, make_splits
from nnunet_transfer.errors import DataError, SettingsError
from tests.conversion_runs import run, write_cases


@pytest.fixture
def tree(nnunet_folders: Path) -> Path:
    """A tree of `CASES` cases laid out like ATLAS R2.0."""
    return write_cases(nnunet_folders / "source")


# --- install-splits --------------------------------------------------------------------------------------------------


@pytest.fixture
def preprocessed(tree: Path, nnunet_folders: Path) -> Path:
    """The folder that preprocessing makes of the converted tree."""
    records = run(tree, folds=2).records
    folder = nnunet_folders / "preprocessed/Dataset004_ATLASR2"
    (folder / "gt_segmentations").mkdir(parents=True)
    for record in records:
        (folder / f"gt_segmentations/{record.case}.nii.gz").touch()
    return folder


def test_splits_are_installed_once(preprocessed: Path, nnunet_folders: Path) -> None:
    for _ in range(2):
        assert main(["install-splits", "-d", "4"]) == 0
        installed = (preprocessed / "splits_final.json").read_bytes()
        assert installed == (nnunet_folders / "raw/Dataset004_ATLASR2/splits_final.json").read_bytes()


def test_other_splits_are_replaced_only_when_asked(preprocessed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (preprocessed / "splits_final.json").write_text("[]")
    assert main(["install-splits", "-d", "4"]) == 2
    assert "has other folds; give --overwrite" in capsys.readouterr().err
    assert (preprocessed / "splits_final.json").read_text() == "[]"
    assert main(["install-splits", "-d", "4", "--overwrite"]) == 0
    assert len(json.loads((preprocessed / "splits_final.json").read_text())) == 2


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (
            lambda p, raw: (p / "gt_segmentations/sub-r001_ses-1.nii.gz").unlink(),
            "case sub-r001_ses-1 isn't preprocessed",
        ),
        (lambda p, raw: (p / "gt_segmentations/new.nii.gz").touch(), "case new isn't in the folds"),
        (
            lambda p, raw: (raw / "dataset.json").write_text("[]"),
            "dataset.json has no file_ending; complete it",
        ),
        (lambda p, raw: shutil.rmtree(p), "holds no preprocessed cases; run nnUNetv2_plan_and_preprocess first"),
        (lambda p, raw: (raw / "splits_final.json").unlink(), "does not exist; convert the data set"),
        (lambda p, raw: (raw / "splits_final.json").write_text("[{}]"), "is not a list of folds"),
        (
            lambda p, raw: (raw / "splits_final.json").write_text('[{"train": ["a"], "val": ["a"]}]'),
            "a is in train and in val of fold 0",
        ),
    ],
)
def test_splits_that_do_not_fit_are_refused(
    spoil: Any, wanted: str, preprocessed: Path, nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(preprocessed, nnunet_folders / "raw/Dataset004_ATLASR2")
    assert main(["install-splits", "-d", "4"]) == 2
    assert wanted in capsys.readouterr().err
    assert not (preprocessed / "splits_final.json").exists()


# --- folds -----------------------------------------------------------------------------------------------------------


def record(case: str, **values: Any) -> Record:
    """Return a training case's record."""
    common = {"session": "", "rater": "", "split": "train", "class_name": "", "state": "", "source_files": ()}
    return Record(**{"case": case, "subject": case, "site": "", "content": case, **common, **values})


@st.composite
def cohorts(draw: st.DrawFn) -> list[Record]:
    """Draw cases of subjects at sites, with lesions or without."""
    subjects = draw(st.integers(2, 15))
    found = []
    for subject in range(subjects):
        site = f"site{draw(st.integers(0, 3))}"
        for visit in range(draw(st.integers(1, 4))):
            load = draw(st.one_of(st.none(), st.just(0.0), st.floats(0.01, 100)))
            found.append(record(f"s{subject}v{visit}", subject=f"s{subject}", site=site, lesion_ml=load))
    return found


@given(cohorts(), st.integers(2, 7), st.sampled_from(["subject", "site"]))
def test_every_case_is_validated_once_and_no_group_straddles_folds(
    records: list[Record], folds: int, group_by: str
) -> None:
    splits, warnings = make_splits(records, folds, group_by)
    group = {r.case: getattr(r, group_by) for r in records}
    count = len(set(group.values()))
    assert len(splits) == (min(folds, count) if count > 1 else 0)
    assert bool(warnings) == (count < folds)
    if not splits:
        return
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(group)
    for fold in splits:
        assert fold["val"]
        assert fold["train"]
        assert sorted(fold["train"] + fold["val"]) == sorted(group)
        assert {group[c] for c in fold["val"]}.isdisjoint(group[c] for c in fold["train"])


@given(st.permutations([record(f"c{i}", site=f"s{i % 3}", lesion_ml=float(i)) for i in range(12)]))
@settings(max_examples=20)
def test_folds_do_not_depend_on_the_order_of_cases(records: list[Record]) -> None:
    assert make_splits(records) == make_splits(sorted(records, key=lambda r: r.case))


def test_folds_are_alike_in_site_and_lesion_load() -> None:
    rng = np.random.default_rng(0)
    sites = rng.choice(["a", "b", "c", "d"], 655, p=[0.5, 0.3, 0.15, 0.05])
    loads = np.where(rng.random(655) < 0.05, 0, rng.lognormal(1, 2, 655))
    records = [record(f"c{i:03d}", site=str(sites[i]), lesion_ml=float(loads[i])) for i in range(655)]
    by_case = {r.case: r for r in records}
    quarters = np.quantile(loads[loads > 0], [0.25, 0.5, 0.75])
    splits, _ = make_splits(records)
    assert {len(fold["val"]) for fold in splits} == {131}
    for stratum in (
        lambda r: r.site,
        lambda r: -1 if not r.lesion_ml else int(np.searchsorted(quarters, r.lesion_ml)),
    ):
        counts = [Counter(stratum(by_case[c]) for c in fold["val"]) for fold in splits]
        for name in set().union(*counts):
            shares = [count[name] for count in counts]
            assert max(shares) - min(shares) <= 2, (name, shares)


def test_classes_are_spread_over_folds() -> None:
    records = [record(f"c{i:02d}", class_name="rare" if i < 5 else "common") for i in range(50)]
    splits, _ = make_splits(records)
    assert [sum(case < "c05" for case in fold["val"]) for fold in splits] == [1] * 5


def test_a_case_without_site_can_not_be_grouped_by_site() -> None:
    with pytest.raises(SettingsError, match="case b has no site; take --group-by subject"):
        make_splits([record("a", site="x"), record("b")], 2, "site")


def test_subjects_of_several_sites_stay_on_one_side_of_each_fold() -> None:
    # the second visit of two subjects is at another site
    records = [
        record(f"s{i}v{visit}", subject=f"s{i}", site="ABCDEF"[(i + (visit == 1 and i in (0, 2))) % 6])
        for i in range(12)
        for visit in range(2)
    ]
    splits, warnings = make_splits(records, 5, "site")
    assert len(splits) == 4
    for part in ("subject", "site"):
        group = {r.case: getattr(r, part) for r in records}
        for fold in splits:
            assert {group[c] for c in fold["val"]}.isdisjoint(group[c] for c in fold["train"])
    assert warnings == [
        "sites of one subject share a fold; 2 subjects at several: s0 (A, B), s2 (C, D)",
        "4 folds instead of 5: there are only 4 groups of cases",
    ]
    travelling = [record(f"v{site}", subject="s", site=site) for site in "AB"]
    assert make_splits(travelling, 2, "site") == (
        [],
        [
            "sites of one subject share a fold; 1 subject at several: s (A, B)",
            "no splits: all training cases are of sites that share subjects",
        ],
    )


def test_more_folds_than_groups_can_not_be_dealt() -> None:
    with pytest.raises(DataError, match="1 group of cases can't be split into 2 folds"):
        deal({"a": "x", "b": "x"}, {}, 2)
