"""The two commands to a report: a short study file, and its smoke run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import nnunet_transfer as nt
from nnunet_transfer.cli import main
from nnunet_transfer.errors import SettingsError, StudyError
from nnunet_transfer.locks import locked_at_once
from nnunet_transfer.study import read_study, state, study_jobs
from nnunet_transfer.study.engine import RUN_LOCK
from nnunet_transfer.study.short import write_short_study, write_smoke_study
from nnunet_transfer.study.status import is_run, job_states, watch
from tests.study_files import write_study


def test_init_asks_nothing_and_says_what_the_study_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ATLAS_2").mkdir()
    command = ["study", "init", "--target", f"atlas_r2={tmp_path}/ATLAS_2", "--source", "imagenet_resnet18d"]
    assert main(command) == 1  # there are no cases in the folder, and the check says so
    printed = capsys.readouterr().out
    for words in (
        "GPU hours",
        "GB to be written",
        "licence of atlas_r2",
        "ImageNet's terms",
        "holds no case of atlas_r2",
    ):
        assert words in printed
    assert len((tmp_path / "study.yaml").read_text().splitlines()) == 6
    study = read_study("study.yaml")
    assert [arm.source for arm in study.arms] == [None, "imagenet_resnet18d"]
    assert (study.profile, study.targets["atlas_r2"].protocols) == ("resnet18", ("atlas_r2",))
    assert main(command) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("targets", "sources", "message"),
    [
        (["atlas_r2"], [], "give a converter and a folder"),
        (["atlas_r9=/d"], [], "did you mean"),
        (["atlas_r2=/d", "atlas_r2=/e"], [], "twice"),
        (["atlas_r2=/d"], ["imagenet_resnet18x"], "did you mean"),
        (["atlas_r2=/d"], ["imagenet_resnet18d", "imagenet_resnet50d"], "differ in architecture"),
        (["atlas_r2=/d"], ["suprem_unet"], "--profile"),
    ],
)
def test_what_a_short_study_cannot_be_is_said_in_one_line(
    targets: list[str], sources: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        write_short_study(tmp_path / "study.yaml", targets, sources)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "study.yaml").exists()


@pytest.mark.parametrize("folder", ["/data/ATLAS: #2", "/data/{x}, [y]", "relative/Daten ü", "'quoted' \"twice\""])
def test_any_folder_can_be_named(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_short_study(tmp_path / "study.yaml", [f"atlas_r2={folder}"], ["openmind_mae"])
    study = read_study(tmp_path / "study.yaml")
    assert study.datasets["atlas_r2"].path == tmp_path / folder
    assert study.profile == "resenc_l"


@pytest.mark.parametrize("file", ["2025-11-30", "3cases", "ATLAS - pilot", "on", "läsionen", "-", "x" * 90])
@pytest.mark.parametrize("converter", ["7t_ms", "läsionen", "null"])
def test_a_short_study_can_be_read_whatever_its_files_are_called(
    file: str, converter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "from nnunet_transfer.dataset_conversion.atlas import ATLAS_R2 as DATASET\n"
    Path(f"{converter}.py").write_text(source)
    nt.init_study(f"{file}.yaml", [f"{converter}.py=data"])
    (target,) = read_study(Path(f"{file}.yaml")).targets
    assert target.isascii()


def test_paths_of_a_short_study_start_where_the_command_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA", str(tmp_path / "disk"))
    Path("lab.py").write_text("from nnunet_transfer.dataset_conversion.atlas import ATLAS_R2 as DATASET\n")
    nt.init_study("studies/stroke.yaml", ["lab.py=data/own", "atlas_r2=$DATA/ATLAS_2"])
    study = read_study(tmp_path / "studies" / "stroke.yaml")
    assert study.datasets["lab"].path == tmp_path / "data" / "own"
    assert study.datasets["lab"].converter == str(tmp_path / "lab.py")
    assert study.datasets["atlas_r2"].path == tmp_path / "disk" / "ATLAS_2"


def test_a_smoke_run_has_every_kind_of_step_and_is_small_and_apart(tmp_path: Path) -> None:
    content = {
        "name": "long",
        "profile": "demo",
        "device": "cpu",
        "configuration": "2d",
        "datasets": {
            "t1": {"id": 1, "synthetic": "t1", "plans": {"batch_size": 1}},
            "stroke": {"id": 2, "converter": "atlas_r2", "path": "ATLAS_2", "options": {"folds": 3}},
            "ms": {"id": 3},
        },
        "sources": {"t1_segmentation": {"pretrain": "t1", "epochs": 500}},
        "targets": {"stroke": {"dataset": "stroke", "folds": [0, 1, 2]}, "ms": {"dataset": "ms"}},
        "seeds": [0, 1, 2],
        "folders": {"raw": "raw"},
    }
    (tmp_path / "raw" / "Dataset003_MS").mkdir(parents=True)
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content))
    long = read_study(file)
    write_smoke_study(long)
    smoke = read_study(write_smoke_study(long))  # it may be written again
    jobs, short = study_jobs(long), study_jobs(smoke)
    assert {job.kind for job in short.values()} == {job.kind for job in jobs.values()}
    trained = [job for job in short.values() if job.kind in ("pretrain", "finetune")]
    assert len(trained) == 1 + 2 * 2 * 2
    assert all("_1epochs_5iterations" in job.settings["trainer"] for job in trained)
    assert dict(smoke.datasets["stroke"].options) == {"folds": 3, "limit": 20}
    batches = {name: dataset.plans["batch_size"] for name, dataset in smoke.datasets.items()}
    assert batches == {"t1": 1, "stroke": 2, "ms": 2}
    assert smoke.datasets["stroke"].path == long.datasets["stroke"].path
    # nothing of it lies where the long run writes, and data sets that are there already are taken as they are
    assert all(folder.is_relative_to(long.folder / "smoke") for folder in smoke.folders.values())
    assert (smoke.folders["nnUNet_raw"] / "Dataset003_MS").resolve() == tmp_path / "raw" / "Dataset003_MS"
    assert yaml.safe_load(file.read_text()) == content


def test_a_smoke_run_finds_raw_data_where_they_are_now(tmp_path: Path) -> None:
    def write(raw: str) -> Path:
        content = {"folders": {"raw": raw}, "datasets": {"stroke": {"id": 3}, "t1": {"id": 702, "synthetic": "t1"}}}
        study = read_study(write_study(tmp_path, lambda study: study.update(content)))
        return read_study(write_smoke_study(study)).folders["nnUNet_raw"]

    for raw, name in (("raw", "Dataset003_MS"), ("moved", "Dataset003_MS"), ("moved", "Dataset003_Stroke")):
        (tmp_path / raw / name).mkdir(parents=True)
        linked = write(raw)
        assert [(path.name, path.resolve()) for path in linked.iterdir()] == [(name, tmp_path / raw / name)]
        (tmp_path / raw / name).rmdir()


def test_a_smoke_run_lies_below_its_study_whatever_the_folders_are_called(tmp_path: Path) -> None:
    home = tmp_path / "data$thesis"
    home.mkdir()
    study = read_study(write_study(home))
    assert read_study(write_smoke_study(study)).folder == study.folder / "smoke" == home / "small" / "smoke"


def test_a_smoke_run_keeps_sources_apart_that_differ_in_length_alone(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        own = {"pretrain": "t1", "task": "segmentation"}
        content["sources"] = {
            "long": {**own, "epochs": 300},
            "longer": {**own, "iterations": 1000},
            "short": {**own, "epochs": 100},
            "other": {**own, "epochs": 300, "seed": 1},
        }

    smoke = read_study(write_smoke_study(read_study(write_study(tmp_path, change))))
    lengths = {name: source.trainer.epochs for name, source in smoke.sources.items() if source.trainer}
    assert lengths == {"long": 2, "longer": 3, "short": 1, "other": 1}
    assert {source.trainer.iterations for source in smoke.sources.values() if source.trainer} == {5}


@pytest.mark.parametrize(("cases", "limit"), [(["all", 100], 200), ([5], 20)])
def test_a_smoke_run_has_the_cases_that_subsets_ask_for(cases: list[str | int], limit: int, tmp_path: Path) -> None:
    write_short_study(tmp_path / "study.yaml", ["atlas_r2=/data"], [])
    content = yaml.safe_load((tmp_path / "study.yaml").read_text())
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**content, "cases": cases}))
    smoke = read_study(write_smoke_study(read_study(tmp_path / "study.yaml")))
    assert smoke.datasets["atlas_r2"].options["limit"] == limit


def test_check_names_every_wrong_line_at_once(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "profil: demo\nname: 3\ndatasets: {d: {id: one}}\ntargets: {t: {dataset: d, fold: [0]}}\nspeed: 1\ndevise: cpu\n"
    )
    with pytest.raises(StudyError) as error:
        read_study(file)
    text = str(error.value)
    for part in (
        *("line 1: profil: unknown key; did you mean profile?", "line 1: needs profile", "line 2: name: must be text"),
        *(
            "line 3: datasets.d.id",
            "line 4: targets.t.fold: unknown key; did you mean folds?",
            "line 5: speed: unknown",
        ),
        "line 6: devise: unknown key; did you mean device?",
    ):
        assert part in text
    lines = [int(number) for number in re.findall(r"line (\d+):", text)]
    assert lines == sorted(lines)
    assert "\n" not in text


def test_status_says_how_far_a_training_is_and_watching_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "{name: s, profile: demo, datasets: {t: {id: 2, synthetic: stroke}}, targets: {t: {dataset: t, folds: [0]}}}"
    )
    study = read_study(file)
    jobs = study_jobs(study)
    job = next(job for job in jobs.values() if job.kind == "finetune")
    with state.at_work(study.folder, job):
        log = state.last_log(study.folder, job)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("x: Epoch 9 \nx: Epoch time: 36.0 s \nx: Epoch 10 \n")
        (found,) = [s for s in job_states(study, jobs) if s.job == job]
        assert "epoch 10 of 1000, about 9.9 h left" in found.detail
    watch(lambda: job_states(study, jobs), lambda: is_run(study), 60)  # nothing runs: it must not wait
    assert capsys.readouterr().out.count("waiting") == 1
    with locked_at_once(study.folder / state.LOCKS / RUN_LOCK):
        assert is_run(study)  # though no step does
    assert not is_run(study)
    states = iter([True, False])
    watch(lambda: job_states(study, jobs), lambda: next(states), 0)
    assert capsys.readouterr().out.count("waiting") == 2
