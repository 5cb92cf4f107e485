"""Ranking end to end on a tiny target: a source that knows the task beats a random network; nothing else is read."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nnunet_transfer._nnunet import extract_fingerprint_in_process, preprocess_in_process
from nnunet_transfer.cli import main
from nnunet_transfer.errors import DataError, TransferError
from nnunet_transfer.files import read_json
from nnunet_transfer.plans import write_transfer_plans
from nnunet_transfer.ranking.fitted import deal_subjects
from nnunet_transfer.ranking.rank import RANDOM, RankSettings, rank_sources, ranks_elsewhere
from nnunet_transfer.ranking.target import open_target
from nnunet_transfer.sources import load_source, save_source
from tests.nnunet_data import write_blob_dataset
from tests.sources import save_random_source

PLANS = "nnUNetPlans_demo"


@pytest.fixture
def target(nnunet_folders: Path) -> Path:
    """A preprocessed 2D target of six cases, with two sources: one as the plans want it, one that doesn't fit."""
    name = write_blob_dataset(nnunet_folders / "raw", 21)
    folder = extract_fingerprint_in_process(21)
    write_transfer_plans(21, profile="demo", configurations=["2d"], patch_size=(32, 32), batch_size=2)
    preprocess_in_process(21, PLANS, ["2d"])
    plans = folder / f"{PLANS}.json"
    save_random_source("plain", plans, "2d", labels=2)
    state = save_random_source("odd", plans, "2d", labels=2)
    card = load_source("odd").card
    save_source(card, {k: v for k, v in state.items() if k.startswith("decoder.stages")}, overwrite=True)
    assert folder.name == name
    return folder


def test_rows_scores_and_files_agree(target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_state = torch.random.get_rng_state()
    table = tmp_path / "elsewhere.csv"
    table.write_text("source,target,score\nplain,Other,0.5\nodd,Other,0.7\nplain,Dataset021_Blobs,0.9\n")
    out = tmp_path / "ranking.csv"
    arguments = ["sources", "rank", "-d", "21", "-c", "2d", "-p", PLANS, "-o", str(out), "--results", str(table)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    rows = {row["source"]: row for row in csv.DictReader(out.read_text().splitlines())}
    assert set(rows) == {"plain", "odd", RANDOM}
    assert all(name in printed for name in rows)
    assert rows["odd"]["note"].startswith("does not fit")
    assert rows["odd"]["rank"] == ""
    for name in ("plain", RANDOM):
        row = rows[name]
        dice, low, high = (float(row[k]) for k in ("Dice", "Dice low", "Dice high"))
        # bright boxes on noise: even random features find some of them
        assert 0.05 < dice <= 1
        assert low <= dice <= high
        assert row["subjects"] == "6"
        assert all(
            math.isfinite(float(row[k])) for k in ("LogME", "GBC", "CC-FV", "GRTD", "LBTC", "TopoTE", "lesion F1")
        )
    assert float(rows["odd"]["mean rank elsewhere"]) == -1
    assert float(rows["plain"]["mean rank elsewhere"]) == -2
    assert sorted(r["rank"] for r in rows.values()) == ["", "1", "2"]
    # a second run gives the same scores, and nobody's random numbers were touched
    again = {r.source: r for r in rank_sources("21", "2d", PLANS, ["plain"])}
    assert f"{again['plain'].dice:.4g}" == rows["plain"]["Dice"]
    assert torch.equal(torch.random.get_rng_state(), random_state)


@pytest.mark.parametrize(
    ("wrong", "words"), [(["--device", "gpu"], "device gpu can't"), (["--seed", "-1"], "the seed -1 is negative")]
)
def test_a_device_or_seed_that_cannot_be_used_is_one_line(
    wrong: list[str], words: str, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sources", "rank", "-d", "21", "-c", "2d", "-p", PLANS, *wrong]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_only_the_folds_training_cases_are_read(target: Path) -> None:
    opened = open_target("21", "2d", PLANS)
    assert len(opened.cases) == 6
    fold = open_target("21", "2d", PLANS, fold=0)
    splits = read_json(target / "splits_final.json") if (target / "splits_final.json").is_file() else None
    assert set(fold.cases) < set(opened.cases)
    if splits:
        assert set(fold.cases) == set(splits[0]["train"])
    assert len(open_target("21", "2d", PLANS, limit=3).cases) == 3
    for wrong, message in (
        ({"configuration": "3d"}, "has no configuration 3d"),
        ({"plans": "nnUNetPlans_no"}, "does not exist"),
        ({"fold": 9}, "folds 0 to"),
        ({"limit": 1}, "1 subject"),
    ):
        given = {"dataset": "21", "configuration": "2d", "plans": PLANS} | wrong
        with pytest.raises(TransferError, match=message):
            open_target(**given)


def test_a_subjects_cases_are_held_out_together() -> None:
    subjects = {f"case{i}": f"s{i // 3}" for i in range(12)}
    folds = deal_subjects(subjects, 3, 0)
    assert sorted(case for fold in folds for case in fold) == sorted(subjects)
    for fold in folds:
        inside = {subjects[c] for c in fold}
        assert all(case in fold for case, s in subjects.items() if s in inside)
    assert len(deal_subjects(subjects, 9, 0)) == 4


def test_a_wrong_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("source,target\na,b\n")
    with pytest.raises(DataError, match="source, target and score"):
        ranks_elsewhere(tmp_path / "t.csv", "x")
    with pytest.raises(DataError, match="does not exist"):
        ranks_elsewhere(tmp_path / "none.csv", "x")
    (tmp_path / "twice.csv").write_text("source;target;score\na;x;0.5\nb;x;0.4\na;x;0.6\n")
    with pytest.raises(DataError, match="line 4: a on x is given twice"):
        ranks_elsewhere(tmp_path / "twice.csv", "y")


@pytest.mark.parametrize("outputs", [5, [[]], [[1]]])
def test_a_card_with_odd_outputs_stops_no_ranking(outputs: object, target: Path) -> None:
    source = load_source("plain")
    save_source(replace(source.card, extra={"outputs": outputs}), source.tensors(), overwrite=True)
    rows = {row.source: row for row in rank_sources("21", "2d", PLANS, ["plain"], settings=RankSettings(cases=2))}
    assert math.isfinite(rows["plain"].logme)
    assert math.isnan(rows["plain"].leep)
