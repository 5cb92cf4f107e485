"""Every command in README and docs: what bash makes of it is understood, and what can be run is run."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from nnunet_transfer._nnunet import extract_fingerprint_in_process
from nnunet_transfer.cli import main
from nnunet_transfer.errors import TransferError
from nnunet_transfer.files import read_json
from nnunet_transfer.sources import load_source
from nnunet_transfer.study import read_study
from nnunet_transfer.study.short import write_short_study
from tests.checkpoint_files import build, nnunet_run, plans_architecture, randomise
from tests.comparison_data import save_mask
from tests.conversion_trees import atlas_r2, box, image, save, write_tree
from tests.lab_package import EXTENDING, FILES
from tests.nnunet_data import write_blob_dataset
from tests.shell_commands import PAGES, ROOT, check_command, commands_of, shell_blocks
from tests.studies import write_atlas_tree, write_small_study
from tests.warm import run_warm

BLOCKS = [(page.relative_to(ROOT).as_posix(), block) for page in PAGES for block in shell_blocks(page)]


@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{page}-{i}" for i, (page, _) in enumerate(BLOCKS)])
def test_every_command_is_understood(page: str, block: str, tmp_path: Path) -> None:
    for command in commands_of(block, tmp_path):
        try:
            check_command(command)
        except SystemExit:
            pytest.fail(f"{page}: wrong options in {' '.join(command)}")
        except TransferError as error:
            pytest.fail(f"{page}: {' '.join(command)}: {error}")


@pytest.mark.parametrize(
    "line",
    [
        "nnunet_transfer plan -d 4 --no-such-option",
        "nnunet_transfer sources add file.pth --name x --task wrong --domain t1",
        "nnunet_transfer no-such-command",
        "nnUNetv2_train 4 2d 0 --no-such-option",
        "nnUNetv2_train 4 2d",
        "nnUNetv2_preprocess -d 4 --no-such-option",
        "nnUNetv2_no_such_command -d 4",
        "for arm in Scratch NoSuchArm; do nnUNetv2_train 4 2d 0 -tr nnUNetTrainer${arm}_noSuchRecipe; done",
        'x="$(nnunet_transfer env --no-such-option)"',
        "make no-such-target",
        "python -m benchmarks.no_such_module",
        "rm -r folder",
        "cp docs/no_such_file.yaml WORK",
    ],
)
def test_a_wrong_line_is_seen(line: str, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, SystemExit, TransferError)):
        _check_all(line, tmp_path)


def _check_all(block: str, folder: Path) -> None:
    for command in commands_of(block, folder):
        check_command(command)


def test_bash_says_what_would_run(tmp_path: Path) -> None:
    block = 'for a in x "y z"; do\n  nnUNetv2_train 1 2d 0 \\\n    -tr "$a"  # why\ndone\neval "$(nnunet_transfer env)"'
    train = ["nnUNetv2_train", "1", "2d", "0", "-tr"]
    assert commands_of(block, tmp_path) == [[*train, "x"], [*train, "y z"], ["nnunet_transfer", "env"]]


@pytest.fixture
def lab(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab's folders: data set 100 with its fingerprint, a checkpoint, masks to score; the present folder."""
    dataset = write_blob_dataset(nnunet_folders / "raw", 100, shape=(24, 24, 16))
    extract_fingerprint_in_process(dataset, foreground_voxels=10_000)
    architecture = plans_architecture()
    torch.manual_seed(0)
    torch.save(nnunet_run(build(architecture), architecture), nnunet_folders / "checkpoint_final.pth")
    for folder in ("labelsTs", "predictions"):
        save_mask(box(), nnunet_folders / folder / "case.nii.gz")
    write_atlas_tree(nnunet_folders)
    monkeypatch.chdir(nnunet_folders)
    return nnunet_folders


#: of the pages' own commands, those that need a network, trained arms or another installation -> why
NEEDS_MORE = {
    "sources fetch imagenet": "downloads",
    "compare": "needs trained arms; the walk-through's test trains some",
    "install-splits": "needs preprocessed data; the walk-through's test has them",
    "doctor": "looks at the machine: what it finds differs",
}


def _lines(page: str, folder: Path) -> Iterator[list[str]]:
    """Give the arguments of `nnunet_transfer` on a page."""
    work = folder / "shell"
    work.mkdir(exist_ok=True)
    for block in shell_blocks(ROOT / page):
        for program, *arguments in commands_of(block, work):
            if program == "nnunet_transfer":
                yield arguments


def test_the_answers_to_questions_run(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = 0
    for arguments in _lines("docs/faq.md", lab):
        line = " ".join(arguments)
        if any(line.startswith(start) for start in NEEDS_MORE):
            continue
        here = [str(lab / "ATLAS_2") if a == "/data/ATLAS_2" else a for a in arguments]
        assert main(here) == 0, f"{line}: {capsys.readouterr().err}"
        run += 1
    assert run >= 10
    assert (lab / "preprocessed" / "Dataset100_Blobs" / "nnUNetPlans_from_mine.json").is_file()
    assert (lab / "cases.csv").is_file()


def _write_data(folder: Path) -> dict[str, str]:
    """Write miniatures of the data sets that the pages convert; return the shown path of each and its own."""
    places = {f"/data/{name}": folder / name for name in ("OASIS3", "IXI", "scans")}
    for i in range(1, 6):
        save(image(i), places["/data/OASIS3"] / f"sub-{i:02d}/anat/sub-{i:02d}_T1w.nii.gz")
        save(image(i + 5), places["/data/IXI"] / f"IXI{i:03d}-Guys-{i:04d}-T1.nii.gz")
        save(image(i + 10), places["/data/scans"] / f"P{i}/first_T1.nii.gz")
    sexes = "".join(f"sub-{i:02d}\t{'FM'[i % 2]}\n" for i in range(1, 6))
    (places["/data/OASIS3"] / "participants.tsv").write_text(f"participant_id\tsex\n{sexes}", encoding="utf-8")
    ages = "".join(f"{i},{20 + 10 * i}\n" for i in range(1, 6))
    (folder / "IXI.csv").write_text(f"IXI_ID,AGE\n{ages}", encoding="utf-8")
    return {"/data/ATLAS_2": str(folder / "ATLAS_2"), **{shown: str(path) for shown, path in places.items()}}


@pytest.mark.parametrize("page", ["README.md", "docs/conversion.md"])
def test_the_conversions_shown_run(page: str, lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = _write_data(lab)
    for folder in ("raw", "preprocessed"):  # ids of data sets in any of nnU-Net's folders are used
        shutil.rmtree(lab / folder / "Dataset100_Blobs")
    run = 0
    for arguments in _lines(page, lab):
        if arguments[0] == "convert":
            assert main([own.get(word, word) for word in arguments]) == 0, capsys.readouterr().err
            run += 1
    assert run == {"README.md": 1, "docs/conversion.md": 6}[page]


#: what `study` does beyond this process -> why it is left to tests/test_study_run.py and tests/slurm
STUDY_ELSEWHERE = ("study run study.yaml --jobs", "study run study.yaml --profile", "study report")


@pytest.mark.parametrize("page", ["docs/walkthrough.md", "docs/study.md", "docs/slurm.md"])
def test_the_commands_of_a_study_run(page: str, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nnunet_folders)
    file = write_small_study(nnunet_folders)
    small = file.read_text(encoding="utf-8")
    run = 0
    for arguments in _lines(page, nnunet_folders):
        line = " ".join(arguments)
        if arguments[0] != "study" or line.startswith(STUDY_ELSEWHERE) or line == "study run study.yaml":
            continue
        if arguments[1] == "init":
            file.unlink()
        assert main(arguments) == 0, line
        file.write_text(small, encoding="utf-8")
        run += 1
    assert run >= 2


#: of the tutorials' commands, those that no test here runs -> why
NOT_IN_TUTORIALS = {
    "doctor": "looks at the machine: what it finds differs",
    "compare": "needs trained arms; the walk-through's test trains some",
    "study run study.yaml": "tests/test_study_run.py and tests/slurm run studies",
    "study run clinic.yaml": "the same",
    "study step": "downloads",
    "env": "the folders' fixture has done it",
}


@pytest.mark.parametrize(
    ("page", "ran"), [("thesis", 2), ("clinic", 2), ("statistician", 0), ("administrator", 3)], ids=lambda v: str(v)
)
def test_the_commands_of_a_tutorial_run(
    page: str, ran: int, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(nnunet_folders)
    text = (ROOT / "docs" / "tutorials" / f"{page}.md").read_text(encoding="utf-8")
    atlas = str(write_atlas_tree(nnunet_folders))
    if page == "administrator":
        write_short_study(nnunet_folders / "study.yaml", [f"atlas_r2={atlas}"], [])
    if page == "clinic":
        (described,) = re.findall(r"^```json\n(.*?)^```", text, re.M | re.S)
        (study,) = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
        raw = nnunet_folders / "nnUNet_raw"
        raw = raw / write_blob_dataset(raw, 200, shape=(16, 16, 16))
        (raw / "dataset.json").write_text(described, encoding="utf-8")
        (nnunet_folders / "clinic.yaml").write_text(study, encoding="utf-8")
        for folder in ("labelsTs", "predictions"):
            save_mask(box(), nnunet_folders / folder / "case.nii.gz")
    run = 0
    for arguments in _lines(f"docs/tutorials/{page}.md", nnunet_folders):
        line = " ".join(arguments)
        if any(line.startswith(start) for start in NOT_IN_TUTORIALS) and "--slurm-profile" not in line:
            continue
        assert main([word.replace("/data/ATLAS_2", atlas) for word in arguments]) == 0, capsys.readouterr().err
        run += 1
    assert run == ran


def test_the_profile_and_resources_shown_are_right(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    resources = read_study(write_small_study(nnunet_folders, **yaml.safe_load(block))).resources
    assert resources["finetune"].gpus == 1
    monkeypatch.chdir(nnunet_folders)
    assert main(["study", "run", "study.yaml", "--slurm-profile", "slurm"]) == 0
    profile = yaml.safe_load((nnunet_folders / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    for keys in re.findall(r"^\| `([^`]+)` \|", page, re.M):
        first, _, rest = keys.partition(": ")
        assert first in profile
        for key in filter(None, re.split(", |: ", rest)):
            assert key in str(profile[first]), key


def _code(place: str) -> str:
    """Return the block of the page on extending that begins with this place."""
    (code,) = re.findall(rf"^```python\n(# in {re.escape(place)}\n.*?)^```", EXTENDING, re.M | re.S)
    return code


def _run(place: str, **names: Any) -> dict[str, Any]:
    space = {"__name__": "added", **names}
    exec(compile(_code(place), place, "exec"), space)
    return space


def test_an_own_data_set_and_protocol_as_shown(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab / "lab_ms.py").write_text(FILES["lab/datasets.py"], encoding="utf-8")
    files = {f"P{i}/t1.nii.gz": image(i) for i in range(5)} | {f"P{i}/lesions.nii.gz": box(1) for i in range(5)}
    write_tree(files, lab / "own")
    (protocol,) = re.findall(r"^```json\n(.*?)^```", EXTENDING, re.M | re.S)
    (lab / "protocol.json").write_text(protocol, encoding="utf-8")
    (rules,) = re.findall(r"^```text\n(.*?)^```", EXTENDING, re.M | re.S)
    (lab / "keys.txt").write_text(rules, encoding="utf-8")
    network = randomise(build(plans_architecture()))
    foreign = {}
    for key, tensor in network.state_dict().items():
        renamed = re.sub(r"^encoder\.stages\.(\d)\.", r"backbone.stage\1.", key)
        renamed = re.sub(r"^encoder\.stem\.", "backbone.stem.", renamed)
        foreign[re.sub(r"^decoder\.(?!encoder)", "up.", renamed)] = tensor
    foreign = {key: tensor for key, tensor in foreign.items() if not key.startswith("decoder.encoder")}
    torch.save(foreign, lab / "lab.pth")
    for arguments in _lines("docs/extending.md", lab):
        if arguments[0] == "trainers":
            continue  # needs the package itself, see tests/test_registration.py
        own = {"/data/lab": str(lab / "own"), "lab_ms": str(lab / "lab_ms.py")}
        here = [own.get(a, a) for a in arguments]
        assert main(here) == 0, capsys.readouterr().err
    assert read_json(lab / "raw" / "Dataset008_LabMS" / "dataset.json")["numTraining"] == 5
    assert "isles22_5mm3" in (lab / "cases.csv").read_text(encoding="utf-8")
    card = load_source("lab").card
    assert (card.parts, card.trained_on) == ("encoder+decoder", ("OurStudy",))


def test_an_own_source_as_shown(nnunet_folders: Path) -> None:
    architecture = plans_architecture()
    network = randomise(build(architecture))
    plans = {"configurations": {"3d_fullres": {"architecture": architecture}}}
    _run("your script")["keep"](network, plans, "ct_segmentation")
    tensors = load_source("ct_segmentation").tensors()
    assert tensors
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in tensors.items())


def test_every_block_of_code_on_extending_is_run() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    places = re.findall(r"^```python\n# in (.*)$", EXTENDING, re.M)
    assert len(places) == EXTENDING.count("```python")
    assert all(f'"{place}"' in tests or place in FILES for place in places)


#: what the walk-through shows -> what is small enough for a test
SMALLER = {
    "/scratch/raw nnUNet_preprocessed=/scratch/preprocessed nnUNet_results=/scratch/results": "/ nnUNet_unused=/",
    "0 1 2 3 4": "0 1",
    " nnUNetTrainerNaturalClassification nnUNet": " nnUNet",
    "--profile resnet18": "--profile demo --patch-size 32 32 --batch-size 2",
    "nnUNetPlans_resnet18": "nnUNetPlans_demo",
    "_seed1": "_1epochs_2iterations_seed1",
    "nnUNetPretrainerSelfSupervised": "nnUNetPretrainerSelfSupervised_1epochs_2iterations",
    "-i imagesTs": "-i raw/Dataset100_ATLASR2/imagesTs",
}
#: of its commands, those that the test leaves out or does in its own way -> why
ELSEWHERE = {
    "nnunet_transfer sources fetch": "downloads; its arm is left out",
    "nnunet_transfer study": "tests/test_study_run.py runs studies; the template's data sets are not there",
    "nnunet_transfer doctor": "looks at the machine",
    "nnunet_transfer env": "the folders' fixture has done it",
    "tar": "the archive is handed out on request",
    "pip": "the environment is there",
}


def _stock(command: list[str], folder: Path) -> None:
    """Run one of nnU-Net's commands."""
    if command[0] in ("nnUNetv2_train", "nnUNetv2_predict"):
        command = [*command, "-device", "cpu"]
    if command[0] == "nnUNetv2_predict":
        command = [*command, "-f", "0", "-npp", "1", "-nps", "1"]
    if command[0] == "nnUNetv2_export_model_to_zip":
        command = [*command, "-f", "0", "1"]
    if command[0] in ("nnUNetv2_preprocess", "nnUNetv2_extract_fingerprint"):
        command = [*command, "-np", "1"]
    # prediction needs a number of workers above 0, validation starts them then
    workers = "0" if command[0] == "nnUNetv2_train" else "1"
    ended = run_warm(command, folder, os.environ | {"nnUNet_def_n_proc": workers})
    assert ended.status == 0, f"{' '.join(command)}\n{ended.output[-3000:]}"


@pytest.mark.slow
def test_the_walk_through_from_data_to_report(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(nnunet_folders)
    trees = {"/data/ATLAS_2": str(write_atlas_tree(nnunet_folders)), "/data/IXI": str(nnunet_folders / "ixi")}
    test_part = {
        name.removeprefix("ATLAS_2/"): np.pad(volume, ((14, 14), (14, 13), (0, 0)))
        for name, volume in atlas_r2().items()
        if "/Testing/" in name
    }
    write_tree(test_part, nnunet_folders / "ATLAS_2")
    shape = (40, 40, 6)
    write_tree({f"IXI00{i}-Guys-070{i}-T1.nii.gz": image(i, shape) for i in range(1, 7)}, nnunet_folders / "ixi")
    work = nnunet_folders / "shell"
    work.mkdir()
    for block in shell_blocks(ROOT / "docs" / "walkthrough.md"):
        for shown, smaller in SMALLER.items():
            block = block.replace(shown, smaller)
        for command in commands_of(block, work):
            line = " ".join(command)
            if any(line.startswith(start) for start in ELSEWHERE):
                continue
            here = [trees.get(word, word) for word in command]
            if here[0] == "nnunet_transfer":
                if here[1:3] == ["convert", "atlas_r2"]:
                    here += ["--folds", "2"]
                assert main(here[1:]) == 0, f"{line}: {capsys.readouterr().err}"
            else:
                _stock(here, nnunet_folders)
    assert (nnunet_folders / "comparison" / "report.html").is_file()
    rows = (nnunet_folders / "comparison" / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 2, rows
    assert (nnunet_folders / "model.zip").is_file()
    assert len(list((nnunet_folders / "predictions").glob("*.nii.gz"))) == 1
