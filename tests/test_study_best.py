"""The arm `best`: in each fold it starts from the source that ranks first on the fold's training cases."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.comparison.loaded import chosen_sources, doubtful_arms
from nnunet_transfer.comparison.results import find_runs
from nnunet_transfer.errors import ComparisonError, StudyError
from nnunet_transfer.files import read_json, write_json
from nnunet_transfer.study import read_study, study_jobs
from nnunet_transfer.study.steps import report_folder, run_job
from tests.studies import SHORT, moved, run_here, write_small_study
from tests.study_files import set_, write_study

ARM = "nnUNetTrainerTransfer_2epochs_3iterations_seed0"
PLANS = "nnUNetPlans_demo_from_best"
SOURCES = {
    "t1_segmentation": {"pretrain": "t1", "seed": 0, **SHORT},
    "other": {"pretrain": "t1", "task": "segmentation", "seed": 1, **SHORT},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of scratch and the best of two sources; its file."""
    file = write_small_study(tmp_path_factory.mktemp("best"), sources=SOURCES, arms=["scratch", "best"])
    run_here(file)
    return file


def rankings(file: Path) -> dict[int, list[dict[str, str]]]:
    """Return the tables of the study's target, by fold."""
    study = read_study(file)
    return {k: list(csv.DictReader(study.ranking_file("stroke", k).read_text().splitlines())) for k in (0, 1)}


def model(file: Path) -> Path:
    """Return nnU-Net's folder of the arm."""
    return read_study(file).folders["nnUNet_results"] / f"Dataset711_ATLASR2/{ARM}__{PLANS}__2d"


@pytest.mark.slow
def test_each_fold_starts_from_the_source_that_ranks_first_in_it(finished: Path) -> None:
    for fold, rows in rankings(finished).items():
        assert {row["source"] for row in rows} == {*SOURCES, "(random)"}
        assert {(row["target"], row["fold"]) for row in rows} == {("Dataset711_ATLASR2", str(fold))}
        # four subjects' cases, or two, are the training cases of this fold, out of six
        splits = read_json(read_study(finished).folders["nnUNet_preprocessed"] / "Dataset711_ATLASR2/splits_final.json")
        assert {int(row["subjects"]) for row in rows} == {len(splits[fold]["train"])}
        best = max((row for row in rows if row["source"] in SOURCES), key=lambda row: float(row["Dice"]))
        assert read_json(model(finished) / f"fold_{fold}/transfer_report.json")["source"] == best["source"]


@pytest.mark.slow
def test_the_report_shows_the_ranking_and_what_was_chosen(finished: Path) -> None:
    report = report_folder(read_study(finished))
    page = (report / "report.html").read_text()
    chosen = chosen_sources(model(finished))
    assert f"Best-ranked source: a ranking on each fold's training cases chose {chosen[0]} in fold 0" in page.replace(
        "&#39;", "'"
    )
    assert "Sources before training" in page
    arms = pd.read_csv(report / "summary.csv")["title"]
    assert set(arms) == {"Scratch", "Best-ranked source"}


@pytest.mark.slow
def test_folds_may_choose_differently_but_must_load_what_was_chosen(finished: Path, tmp_path: Path) -> None:
    file = moved(finished, tmp_path)
    study = read_study(file)
    fold = model(file) / "fold_0"
    plans, report = read_json(model(file) / "plans.json"), read_json(fold / "transfer_report.json")
    other = next(name for name in SOURCES if name != report["source"])
    results = study.folders["nnUNet_results"]
    write_json(fold / "transfer_report.json", {**report, "source": other})
    with pytest.MonkeyPatch.context() as patch:
        for variable, folder in study.folders.items():
            patch.setenv(variable, str(folder))
        with pytest.raises(ComparisonError, match=f"fold 0 of .* loaded {other} .* choose {report['source']} for it"):
            find_runs("Dataset711_ATLASR2", arms=[ARM])
        assert [text for _, text in doubtful_arms(results) if f"loaded {other}" in text]
        plans["transfer"]["chosen"]["0"] = other
        write_json(model(file) / "plans.json", plans)
        (run,) = find_runs("Dataset711_ATLASR2", arms=[ARM])
    assert (run.arm.source, run.arm.title.split(" (")[0]) == ("best", "Best-ranked source")
    assert not list(doubtful_arms(results))


@pytest.mark.slow
def test_a_table_of_rankings_is_shown_by_compare(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_study(finished)
    for variable, folder in study.folders.items():
        monkeypatch.setenv(variable, str(folder))
    arguments = ["compare", "-d", "711", "-o", str(tmp_path / "out"), "--draws", "200", "-p", "nnUNetPlans_demo"]
    (tmp_path / "odd.csv").write_text("source,score\na,1\n")
    assert main([*arguments, "--ranking", str(tmp_path / "odd.csv")]) == 2
    assert "so it is no ranking" in capsys.readouterr().err
    other = study.ranking_file("stroke", 0).read_text().replace("Dataset711_ATLASR2", "Dataset712_Other")
    (tmp_path / "other.csv").write_text(other)
    assert main([*arguments, "--ranking", str(tmp_path / "other.csv")]) == 2
    assert "for Dataset712_Other, which is not compared here" in capsys.readouterr().err
    assert main([*arguments, "--ranking", str(study.ranking_file("stroke", 0))]) == 0
    assert "Sources before training" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_a_study_without_a_source_that_fits_says_so(finished: Path, tmp_path: Path) -> None:
    file = moved(finished, tmp_path)
    study = read_study(file)
    job = study_jobs(study)["link-stroke-best"]
    table = study.ranking_file("stroke", 0)
    rows = rankings(file)[0]
    unfit: list[dict[str, Any]] = [
        {**row, "rank": "", "note": "does not fit"} if row["source"] in SOURCES else row for row in rows
    ]
    table.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in unfit)]))
    from nnunet_transfer.study import state

    state.mark(study.folder, job, state.DONE).unlink()
    with pytest.raises(StudyError, match=r"no source of the study can be ranked: .*t1_segmentation: does not fit"):
        run_job(study, job)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_("arms", to=["scratch", "best"]), "describe two or more under sources"),
        (set_("sources", "best", to={"pretrain": "t1", "task": "segmentation"}), "choose another name"),
        (set_("arms", to=["scratch", "bst"]), "there are: scratch, best, t1_segmentation"),
    ],
)
def test_what_can_not_be_chosen_from_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read_study(write_study(tmp_path, change))


def test_learning_curves_are_refused_because_the_ranking_sees_all_cases(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["sources"]["other"] = {"pretrain": "t1", "task": "segmentation", "epochs": 1, "iterations": 6}
        content |= {"arms": ["scratch", "best"], "cases": [2, "all"]}

    with pytest.raises(StudyError, match="ranks sources on all training cases"):
        read_study(write_study(tmp_path, change))


def test_every_source_counts_as_used(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["sources"]["other"] = {"pretrain": "stroke", "task": "segmentation", "epochs": 1, "iterations": 6}
        content["arms"] = ["scratch", "best"]

    from nnunet_transfer.study.summary import examine

    check = examine(read_study(write_study(tmp_path, change)))
    assert any("is trained on the target stroke" in error for error in check.errors)
    assert "no arm starts from it" not in str(check)
