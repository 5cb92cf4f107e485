"""What `study check` finds before the first step, and what it says would run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from nnunet_transfer.cli import main
from nnunet_transfer.errors import StudyError
from nnunet_transfer.files import write_json
from nnunet_transfer.study import read_study, study_jobs
from nnunet_transfer.study.short import write_smoke_study
from nnunet_transfer.study.steps import run_job
from tests.conversion_commands import case_r2
from tests.conversion_trees import Files, box, ibsr18, image, write_tree
from tests.studies import write_atlas_tree
from tests.study_files import Change, set_, write_study

STUDIES = sorted((Path(__file__).parents[1] / "docs" / "results").glob("*/study.yaml"))


def check(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `study check`; return its status and what it printed."""
    status = main(["study", "check", str(file)])
    return status, capsys.readouterr().out


def test_check_says_what_would_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, text = check(write_study(tmp_path), capsys)
    assert status == 0
    assert "finetune         4      4" in text
    for hidden in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        status, text = check(write_study(tmp_path, set_("device", to="cuda")), capsys)
        assert status == 0
        assert "no GPU is visible here" in text
    # two folds of two arms, five iterations; 9 h for 250 000 in 3D, half of it in 2D
    assert "time: about 0 GPU hours" in text


def test_the_command_that_check_ends_with_is_about_this_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path).rename(tmp_path / "our clinic.yaml")
    (tmp_path / "study.yaml").touch()
    _, text = check(file, capsys)
    assert shlex.split(text.splitlines()[-1].removeprefix("ready: ")) == ["nnunet_transfer", "study", "run", str(file)]


def test_a_raw_data_set_without_its_description_is_not_called_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, set_("datasets", "t1", to={"id": 702}))
    folder = read_study(file).folders["nnUNet_raw"] / "Dataset702_Ours"
    (folder / "imagesTr").mkdir(parents=True)
    status, text = check(file, capsys)
    assert status == 1
    assert f"{folder} has no dataset.json" in text
    assert "no Dataset702_*" not in text


def test_another_data_set_is_not_taken_for_a_synthetic_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_study(tmp_path)
    raw = read_study(file).folders["nnUNet_raw"]
    (raw / "Dataset702_DemoT1").mkdir(parents=True)
    assert check(file, capsys)[0] == 0
    (raw / "Dataset711_OurClinic").mkdir()
    status, text = check(file, capsys)
    assert status == 1
    assert "datasets.stroke.id: is that of Dataset711_OurClinic, which isn't one of the demo's" in text


def test_synthetic_data_of_another_seed_in_a_shared_folder_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study").mkdir()
    file = write_study(tmp_path / "study", set_("folders", to={"raw": str(tmp_path / "shared")}))
    description = tmp_path / "shared" / "Dataset711_DemoStroke" / "dataset.json"
    content = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz", "channel_names": {"0": "T1"}}
    write_json(description, content | {"seed": 0})
    assert "seed" not in check(file, capsys)[1]
    write_json(description, content | {"seed": 2})
    said = "is that of Dataset711_DemoStroke, whose seed is 2 instead of 0; choose another, or remove that data set"
    status, text = check(file, capsys)
    assert (status, f"datasets.stroke.id: {said}" in text) == (1, True)
    study = read_study(file)
    with pytest.raises(StudyError, match="id 711 is that of Dataset711_DemoStroke, whose seed is 2 instead of 0"):
        run_job(study, study_jobs(study)["convert-stroke"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_("datasets", "t1", to={"id": 702}), "no Dataset702_"),
        (set_("datasets", "t1", to={"id": 702, "converter": "atlas_r2", "path": "nowhere"}), "doesn't exist"),
        (set_("datasets", "t1", to={"id": 702, "converter": "atlas_r9", "path": "."}), "atlas_r"),
        (
            set_(
                "datasets", "t1", to={"id": 702, "converter": "mslesseg", "path": ".", "options": {"channels": ["T7"]}}
            ),
            "unknown 'T7'; there are: ",
        ),
        (set_("sources", "t1_segmentation", "pretrain", to="stroke"), "trained on the target stroke"),
        (
            set_("sources", "t1_segmentation", to={"checkpoint": "no.pth", "task": "segmentation", "domain": "t1"}),
            "no.pth doesn.t exist",
        ),
        (set_("sources", "mine", to={"fetch": "no_such"}), "unknown 'no_such'; there are: "),
        (set_("targets", "stroke", "folds", to=[0, 2]), "folds 0 to 1, not 2"),
        (
            set_(
                "arms",
                to=[
                    {"source": "scratch", "recipes": ["warmup", "fitted"]},
                    {"source": "t1_segmentation", "recipes": ["lpft"]},
                ],
            ),
            "comparison.baseline has to name one arm: .*none has the recipe and at least the length of",
        ),
        (set_("sources", "t1_segmentation", "fold", to=2), "folds 0 to 1; give one of them, or all"),
        (set_("datasets", "t1", to={"id": 702, "converter": "atlas_r2", "path": "."}), "t1.path: "),
        (set_("datasets", "t1", to={"id": 702, "converter": "lab.py", "path": "."}), "lab.py is not a Python file"),
        (
            set_("datasets", "t1", to={"id": 1001, "converter": "atlas_r2", "path": "."}),
            "t1.id: Dataset1001_.* 1 to 999",
        ),
    ],
)
def test_check_finds_it_before_the_first_job(
    tmp_path: Path, change: Change, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, change)
    status, text = check(file, capsys)
    assert status == 1
    errors = "\n".join(line for line in text.splitlines() if line.startswith("error:"))
    assert re.search(message, errors)
    assert main(["study", "run", str(file)]) == 2
    assert not (tmp_path / "small" / "steps").exists()


@pytest.mark.parametrize(
    ("converter", "options", "message"),
    [
        ("atlas_r2", {"name": "my data"}, "t1.id: .*my data isn't a name"),
        ("atlas_r2", {"reorient": "ras"}, "t1.options: ras is not an orientation"),
        ("ibsr18", {"threshold": 0.5}, "t1.options: --threshold is for binary masks"),
        ("t1_folder", {"group_by": "site"}, "t1.options: case .* has no site; take --group-by subject"),
        (
            "atlas_r2",
            {},
            "t1.path: 1 case can't be converted .sub-r002s001_ses-1: there is a mask but no image.; correct",
        ),
    ],
)
def test_check_finds_what_a_conversion_would_refuse(
    tmp_path: Path, converter: str, options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tree(ibsr18(), tmp_path / "ibsr") if converter == "ibsr18" else write_atlas_tree(tmp_path)
    next(data.rglob("sub-r002s001*T1w.nii.gz"), data / "none").unlink(missing_ok=True)  # leaves its mask
    content = {"id": 702, "converter": converter, "path": str(data), "options": options}
    status, text = check(write_study(tmp_path, set_("datasets", "t1", to=content)), capsys)
    assert status == 1
    assert re.search(message, text)
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("group_by", ["subject", "site"])
def test_check_finds_folds_that_a_conversion_will_not_make(
    tmp_path: Path, group_by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files: Files = {}
    for i in range(4):
        own = case_r2(i, image(i), box())
        files |= {path.replace("R001", f"R00{i % 2}"): volume for path, volume in own.items()}
    data = write_tree(files, tmp_path / "atlas")

    def change(folds: list[int]) -> Change:
        def write(content: dict[str, Any]) -> None:
            entry = {"id": 711, "converter": "atlas_r2", "path": str(data), "options": {"group_by": group_by}}
            content["datasets"]["stroke"] = entry
            content["targets"]["stroke"]["folds"] = folds

        return write

    count = {"subject": 4, "site": 2}[group_by]
    status, text = check(write_study(tmp_path, change([0, count])), capsys)
    assert status == 1
    assert (
        f"targets.stroke.folds: stroke has {count} {group_by}s and so the folds 0 to {count - 1}, not {count}" in text
    )
    assert check(write_study(tmp_path, change([0, count - 1])), capsys)[0] == 0


def test_a_table_starts_in_the_folder_of_the_study_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_tree(
        {f"sub-{i}/anat/sub-{i}_T1w.nii.gz": image(i) for i in range(4)},
        tmp_path / "bids",
    )
    rows = "".join(f"sub-{i}\t{'FM'[i % 2]}\n" for i in range(4))
    (tmp_path / "sexes.tsv").write_text(f"participant_id\tsex\n{rows}")
    options = {"settings": {"class": "sex", "table": "sexes.tsv"}}
    entry = {"id": 702, "converter": "t1_bids", "path": str(data), "options": options}
    file = write_study(tmp_path, set_("datasets", "t1", to=entry))
    assert check(file, capsys)[0] == 0
    # steps run in the study's folder
    study = read_study(file)
    study.folder.mkdir(exist_ok=True)
    monkeypatch.chdir(study.folder)
    run_job(study, study_jobs(study)["convert-t1"])
    (table,) = study.folders["nnUNet_raw"].glob("Dataset702_*/classes.csv")
    assert len(table.read_text().splitlines()) == 5


def test_check_finds_an_id_that_another_data_set_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw" / "Dataset702_Other").mkdir(parents=True)

    def change(content: dict[str, Any]) -> None:
        content["folders"] = {"raw": "raw"}
        content["datasets"]["t1"] = {"id": 702, "converter": "atlas_r2", "path": str(write_atlas_tree(tmp_path))}

    status, text = check(write_study(tmp_path, change), capsys)
    assert status == 1
    assert f"t1.id: id 702 is used by {tmp_path / 'raw/Dataset702_Other'}" in text


@pytest.mark.parametrize("published", STUDIES, ids=lambda file: file.parent.name)
def test_the_published_studies_lack_their_data_and_nothing_else(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(published.read_text(encoding="utf-8"), encoding="utf-8")
    _, text = check(file, capsys)
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    assert len(errors) == len(read_study(file).datasets)
    assert all(re.search(r"no Dataset\d+_\* in", error) for error in errors)


def test_leakage_is_allowed_if_said_and_named_if_suspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def allowed(content: dict[str, Any]) -> None:
        content["sources"]["t1_segmentation"]["pretrain"] = "stroke"
        content["allow_leakage"] = True

    status, text = check(write_study(tmp_path, allowed), capsys)
    assert status == 0
    assert "note: study.yaml" in text
    assert "is trained on the target" in text

    def suspected(content: dict[str, Any]) -> None:
        (tmp_path / "weights.pth").touch()
        content["sources"]["t1_segmentation"] = {
            "checkpoint": "weights.pth",
            "task": "segmentation",
            "domain": "t1",
            "trained_on": ["OpenMind"],
        }
        content["datasets"]["stroke"] = {"id": 711, "converter": "atlas_r3", "path": "."}

    _, text = check(write_study(tmp_path, suspected), capsys)
    (said,) = (line for line in text.splitlines() if "may share subjects" in line)
    assert said.startswith("note:")


def test_leakage_is_seen_by_where_the_data_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_atlas_tree(tmp_path)
    (tmp_path / "link").symlink_to(data)

    def same(content: dict[str, Any], source: str, converter: str = "t1_folder") -> None:
        content["datasets"]["t1"] = {"id": 702, "converter": converter, "path": source}
        content["datasets"]["stroke"] = {"id": 711, "converter": "atlas_r2", "path": "ATLAS_2", "options": {"folds": 2}}
        content["sources"]["t1_segmentation"]["task"] = "segmentation"

    for source in ("ATLAS_2", "link", "ATLAS_2/Training/R001", "."):
        status, text = check(write_study(tmp_path, lambda content, source=source: same(content, source)), capsys)
        assert status == 1
        assert f"is trained on data in {data}" in text, source
    # a copy elsewhere of the same published data set; other data of the same layout may be other data
    shutil.copytree(data, tmp_path / "copy")
    _, text = check(write_study(tmp_path, lambda content: same(content, "copy", "atlas_r2")), capsys)
    assert "was trained on atlas_r2, which is the target stroke" in text

    def other_site(content: dict[str, Any]) -> None:
        same(content, "copy")
        content["datasets"]["stroke"] = {"id": 711, "converter": "t1_folder", "path": "ATLAS_2"}

    _, text = check(write_study(tmp_path, other_site), capsys)
    (said,) = (line for line in text.splitlines() if "share no subjects" in line)
    assert said.startswith("note:")


def with_two_own_sources(content: dict[str, Any], baseline: str) -> None:
    own = {"pretrain": "t1", "task": "segmentation", "epochs": 1, "iterations": 5}
    content["sources"] = {"a": {**own, "seed": 0}, "b": {**own, "seed": 1}}
    content["training"] = {"epochs": 7, "iterations": 25, "mirroring": False}
    content["comparison"] = {"baseline": baseline}


@pytest.mark.parametrize(
    "baseline",
    [
        "a",
        "nnUNetTrainerTransfer@a",
        "nnUNetTrainerTransfer_noMirroring_7epochs_25iterations@a",
        "nnUNetTrainerTransfer_noMirroring_7epochs_25iterations_seed0@a",
    ],
)
def test_one_of_several_sources_with_their_own_names_can_be_the_baseline(
    tmp_path: Path, baseline: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, lambda content: with_two_own_sources(content, baseline))
    status, text = check(file, capsys)
    assert status == 0, text
    status, text = check(write_smoke_study(read_study(file)), capsys)
    assert status == 0, text


def test_a_baseline_that_may_be_several_sources_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_study(tmp_path, lambda content: with_two_own_sources(content, "nnUNetTrainerTransfer"))
    status, text = check(file, capsys)
    assert status == 1
    assert "the baseline nnUNetTrainerTransfer fits several arms" in text


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    file = write_study(tmp_path, set_("folder", to="file"))
    status, text = check(file, capsys)
    assert status == 1
    assert "is not writable" in text
    assert main(["study", "status", str(file)]) == 0
    assert main(["study", "run", str(file)]) == 2


def test_a_patch_for_3d_leaves_2d_sources_theirs(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content.update(configuration="3d_fullres", plans={"patch_size": [32, 32, 16]})
        content["sources"]["t1_segmentation"]["configuration"] = "2d"

    study = read_study(write_study(tmp_path, change))
    assert study.datasets["stroke"].plans == {"patch_size": [32, 32, 16]}
    assert study.datasets["t1"].plans == {}


def test_without_snakemake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As on Python 3.10, for which there is none."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "snakemake" else find(name))
    status, text = check(write_study(tmp_path), capsys)
    assert status == 1
    assert "error: Snakemake is missing; it needs Python 3.11" in text
    assert main(["study", "run", str(tmp_path / "study.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_too_little_disk_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    status, text = check(write_study(tmp_path), capsys)
    assert status == 1
    assert "not enough disk" in text
