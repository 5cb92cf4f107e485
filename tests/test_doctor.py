"""The doctor names each fault and its fix, on broken installations made for the purpose."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from nnunet_transfer import doctor
from nnunet_transfer.cli import main
from nnunet_transfer.discovery import __path__ as discovery_path
from nnunet_transfer.doctor import Finding, State, installation
from nnunet_transfer.files import sha256_of
from nnunet_transfer.naming import ARMS
from nnunet_transfer.sources import SourceCard

WORKING_TORCH = """
__version__ = "9.9.0+cpu"
class cuda:
    is_available = staticmethod(lambda: False)
class backends:
    class mps:
        is_available = staticmethod(lambda: False)
"""


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, **packages: str) -> None:
    """Put packages with the given `__init__` before all others, for child processes."""
    for name, text in packages.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def _save_empty_source(name: str, registry: Path) -> Path:
    """Write a source by hand, so that this test needs no torch; return its weights file."""
    folder = registry / name
    folder.mkdir(parents=True)
    weights = folder / "weights.safetensors"
    weights.write_bytes(b"weights")
    architecture = {"network_class_name": "N", "arch_kwargs": {}, "arch_kwargs_req_import": []}
    SourceCard(name, "segmentation", "t1", architecture, 1, sha256=sha256_of(weights)).write(folder)
    return weights


def _only(check: str, findings: list[Finding]) -> Finding:
    (found,) = [f for f in findings if f.check == check]
    return found


def test_a_cpu_torch_beside_an_index_torchvision_is_named_with_its_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = 'raise RuntimeError("operator torchvision::nms does not exist")'
    _install(tmp_path / "site", monkeypatch, torch=WORKING_TORCH, torchvision=broken)
    (finding,) = doctor.check_torch()
    assert finding.state is State.FAIL
    assert "9.9.0+cpu" in finding.found
    assert "different builds" in finding.found
    assert "breaks nnU-Net's trainer lookup" in finding.found
    assert "pip install --force-reinstall torch torchvision" in finding.fix
    assert "\n" not in str(finding)


@pytest.mark.parametrize(
    ("torch", "torchvision", "found"),
    [
        ('raise ImportError("libgomp is missing")', "", "libgomp is missing"),
        ("import os; os._exit(7)", "", "Python ended with status 7"),
        (WORKING_TORCH, "raise ValueError('one line\\nand another')", "ValueError: one line"),
    ],
)
def test_other_faults_of_torch_are_reported_and_do_not_stop_the_doctor(
    torch: str, torchvision: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path / "site", monkeypatch, torch=torch, torchvision=torchvision)
    (finding,) = doctor.check_torch()
    assert finding.state is State.FAIL
    assert found in finding.found
    assert finding.fix
    assert "\n" not in str(finding)


def test_working_torch_without_a_gpu_is_a_warning_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path / "site", monkeypatch, torch=WORKING_TORCH, torchvision='__version__ = "1.2.3+cpu"')
    monkeypatch.setenv("PATH", str(tmp_path))  # no driver either
    findings = list(doctor.check_torch())
    assert _only("torch", findings) == Finding("torch", State.OK, "torch 9.9.0+cpu, torchvision 1.2.3+cpu")
    assert _only("GPU", findings).state is State.WARN


@pytest.mark.parametrize(("cuda", "words"), [(None, "built without CUDA"), ("12.8", "CUDA 12.8) can't use it")])
def test_a_card_that_torch_cannot_use_fails(
    cuda: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = f"{WORKING_TORCH}class version:\n    cuda = {cuda!r}\n"
    _install(tmp_path / "site", monkeypatch, torch=torch, torchvision='__version__ = "1.2.3"')
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'GPU 0: Card X (UUID: GPU-1)'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(driver.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = _only("GPU", list(doctor.check_torch()))
    assert found.state is State.FAIL
    assert "GPU 0: Card X" in found.found
    assert words in found.found
    for hidden in ("", "-1"):  # by the user
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert _only("GPU", list(doctor.check_torch())).state is State.WARN


def test_unset_and_wrong_folders_fail_with_the_command_that_mends_them(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("nnUNet_raw")
    monkeypatch.setenv("nnUNet_preprocessed", str(nnunet_folders / "nowhere"))
    monkeypatch.setenv("nnUNet_results", "~/results")
    findings = list(doctor.check_folders())
    assert [f.state for f in findings] == [State.FAIL] * 3
    assert "export nnUNet_raw=" in _only("nnUNet_raw", findings).fix
    assert f"mkdir -p {nnunet_folders / 'nowhere'}" in _only("nnUNet_preprocessed", findings).fix
    assert "~" in _only("nnUNet_results", findings).found


def test_a_folder_twice_and_a_file_fail(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_results", f"{nnunet_folders}/raw/../raw")
    (nnunet_folders / "file").touch()
    monkeypatch.setenv("nnUNet_preprocessed", str(nnunet_folders / "file"))
    findings = list(doctor.check_folders())
    assert _only("nnUNet_raw", findings).state is State.OK
    assert "is also nnUNet_raw" in _only("nnUNet_results", findings).found
    assert "is a file" in _only("nnUNet_preprocessed", findings).found
    monkeypatch.setenv("nnUNet_sources", str(nnunet_folders / "file"))
    (finding,) = doctor.check_sources()
    assert (finding.state, "is a file" in finding.found) == (State.FAIL, True)


def test_a_folder_that_cannot_be_looked_into_fails_and_the_others_are_checked(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the system refuses both as it refuses a folder without permission, and root, too
    loop = nnunet_folders / "loop"
    loop.symlink_to(loop)
    monkeypatch.setenv("nnUNet_raw", str(loop))
    monkeypatch.setenv("nnUNet_preprocessed", f"/{'x' * 300}")
    findings = list(doctor.check_folders())
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        found = _only(variable, findings)
        assert (found.state, "can't be read (" in found.found) == (State.FAIL, True)
    assert _only("nnUNet_results", findings).state is State.OK
    monkeypatch.setenv("nnUNet_sources", str(loop))
    (finding,) = doctor.check_sources()
    assert (finding.state, "can't be read (" in finding.found) == (State.FAIL, True)


def test_a_folder_that_cannot_be_written_fails(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root may write everywhere: ask the check what it would do for a user who may not
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("raw"))
    findings = list(doctor.check_folders())
    assert _only("nnUNet_raw", findings).state is State.FAIL
    assert _only("nnUNet_results", findings).state is State.OK


@pytest.mark.parametrize(
    ("gigabytes", "state"), [(100, State.OK), (20, State.OK), (19, State.WARN), (1, State.WARN), (0.5, State.FAIL)]
)
def test_space_is_judged_once_per_disk(
    gigabytes: float, state: State, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(nnunet_folders)._replace(free=int(gigabytes * 1e9))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert _only("disk", list(doctor.check_folders())).state is state


def test_a_search_path_without_this_package_fails(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [f.state for f in doctor.check_search_path()] == [State.OK]
    monkeypatch.setenv("nnUNet_extTrainer", str(nnunet_folders))
    (finding,) = doctor.check_search_path()
    assert finding.state is State.FAIL
    assert 'eval "$(nnunet_transfer env)"' in finding.fix


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("bad.py", "import no_such_package_xyz", "No module named 'no_such_package_xyz'"),
        ("sub/bad.py", "print([1])\nraise SystemExit(3)", "SystemExit: 3"),
        ("bad.py", "def f(:\n", "SyntaxError"),
    ],
)
def test_another_plug_in_that_stops_the_search_is_named(
    file: str, text: str, words: str, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = nnunet_folders / "lab" / file
    bad.parent.mkdir(parents=True)
    (bad.parent / "__init__.py").touch()
    (nnunet_folders / "lab" / "good.py").write_text("print('imported')\n")
    bad.write_text(text)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([discovery_path[0], str(nnunet_folders / "lab")]))
    found = _only("other trainers", list(doctor.check_search_path()))
    assert found.state is State.FAIL
    assert f"{bad} can't be imported" in found.found
    assert words in found.found
    assert "\n" not in str(found)
    bad.unlink()
    assert [f.state for f in doctor.check_search_path()] == [State.OK]


def test_a_folder_on_the_search_path_that_is_gone(nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([discovery_path[0], str(nnunet_folders / "gone")]))
    assert "is not a folder" in _only("other trainers", list(doctor.check_search_path())).found


@pytest.mark.parametrize("name", ["nnUNetTrainerScratch", "nnUNetTrainerT1Segmentation_50epochs"])
def test_a_class_of_our_name_that_is_found_first_fails(
    name: str, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = nnunet_folders / "lab" / "variants"
    lab.mkdir(parents=True)
    (lab / "ours.py").write_text(f"class {name}(object):\n    pass\n\nclass nnUNetTrainerScratching: ...\n")
    (lab / ".#ours.py").symlink_to("me@here.123")  # Emacs's lock
    before = os.pathsep.join([str(lab.parent), discovery_path[0]])
    after = os.pathsep.join([discovery_path[0], str(lab.parent)])
    monkeypatch.setenv("nnUNet_extTrainer", before)
    shadowed = _only("trainer names", list(doctor.check_search_path()))
    assert shadowed.state is State.FAIL
    assert f"class {name}," in shadowed.found
    assert str(lab / "ours.py") in shadowed.found
    monkeypatch.setenv("nnUNet_extTrainer", after)
    assert [f.check for f in doctor.check_search_path()] == ["nnUNet_extTrainer"]


def test_a_class_of_our_name_inside_nnunet_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tmp_path / "nnunetv2"
    (host / "training" / "nnUNetTrainer").mkdir(parents=True)
    (host / "__init__.py").touch()
    (host / "training" / "nnUNetTrainer" / "mine.py").write_text("class nnUNetPretrainerSegmentation:\n    pass\n")
    monkeypatch.delitem(sys.modules, "nnunetv2", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    shadowed = _only("trainer names", list(doctor.check_search_path()))
    assert "nnUNetPretrainerSegmentation" in shadowed.found


def test_sources_are_missing_unchanged_or_changed(nnunet_folders: Path) -> None:
    (finding,) = doctor.check_sources()
    assert (finding.check, finding.state) == ("arms", State.WARN)
    assert "lacks " + ", ".join(source for source in ARMS.values() if source) in finding.found
    weights = _save_empty_source("t1_segmentation", nnunet_folders / "results" / "sources")
    assert _only("source t1_segmentation", list(doctor.check_sources())).state is State.OK
    assert "t1_segmentation" not in _only("arms", list(doctor.check_sources())).found
    weights.write_bytes(b"others")
    changed = _only("source t1_segmentation", list(doctor.check_sources()))
    assert changed.state is State.FAIL
    assert "was changed" in changed.found
    (weights.parent / "source.json").write_text("{")
    assert "not valid JSON" in _only("source t1_segmentation", list(doctor.check_sources())).found


def test_every_card_is_read_and_compared_with_its_name(nnunet_folders: Path) -> None:
    registry = nnunet_folders / "results" / "sources"
    for name in ("natural_classification", "t1_segmentation", "ct-self-supervised", "ours"):
        _save_empty_source(name, registry)
    (registry / "broken").mkdir()
    (registry / "broken" / "source.json").write_text('{"name": "broken"}')
    (registry / ".superseded-1-ours").mkdir()
    findings = [f for f in doctor.check_sources() if f.check != "arms"]
    wrong = {f.check: f.found for f in findings if f.state is State.WARN}
    assert wrong == {
        "source natural_classification": "its name says classification, its card says segmentation",
        "source ct-self-supervised": "its name says self_supervised, its card says segmentation",
    }
    assert _only("source broken", findings).state is State.FAIL
    assert "lacks" in _only("source broken", findings).found
    assert [f.state for f in findings if f.check in ("source t1_segmentation", "source ours")] == [State.OK] * 2
    _save_empty_source("natural_segmentation", registry)
    assert (
        "natural images, its card says t1"
        in _only("source natural_segmentation", [f for f in doctor.check_sources() if f.state is State.WARN]).found
    )


def test_versions_outside_what_was_tested_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=1.26", "no-such-package-xyz>=2", "nnunetv2<2.0", 'pycocotools>=99; extra == "coco"']
    monkeypatch.setattr(installation, "requires", lambda _: needed)
    missing, old = doctor.check_versions()
    assert (missing.state, old.state) == (State.FAIL, State.FAIL)
    assert missing.found == "no-such-package-xyz is missing"
    assert missing.fix == "pip install 'no-such-package-xyz>=2'"
    assert old.found.endswith("was not tested; tested: <2.0")
    monkeypatch.setattr(installation, "requires", lambda _: needed[:1])
    assert [f.state for f in doctor.check_versions()] == [State.OK]


def test_commands_of_another_python_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(own))
    assert [f.state for f in doctor.check_commands()] == [State.OK]
    other = tmp_path / "nnUNetv2_train"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{own}")
    (found,) = doctor.check_commands()
    assert (found.state, str(other) in found.found) == (State.WARN, True)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "nnUNetv2_train is not on the PATH" in next(iter(doctor.check_commands())).found


def test_windows_is_no_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "is not supported" in _only("system", list(doctor.check_python())).found


def test_a_study_is_checked_with_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", ())
    file = tmp_path / "study.yaml"
    file.write_text(
        "{name: s, profile: demo, device: cpu, configuration: 2d, datasets: {t: {id: 2, synthetic: stroke}}, "
        "targets: {t: {dataset: t, folds: [0]}}}"
    )
    assert main(["doctor", str(file)]) == 0
    assert "GB will be written" in capsys.readouterr().out
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert main(["doctor", str(file), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert ["not enough disk" in f["found"] for f in found if f["state"] == "fail"] == [True]
    assert main(["doctor", str(tmp_path / "none.yaml")]) == 1


def test_sources_are_not_looked_for_without_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results", raising=False)
    monkeypatch.delenv("nnUNet_sources", raising=False)
    (finding,) = doctor.check_sources()
    assert finding.state is State.WARN


@pytest.mark.parametrize(("installed", "state"), [("2.8.3", State.OK), ("2.9.0", State.FAIL), ("2.80", State.FAIL)])
def test_nnunets_version_is_judged(installed: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "version", lambda _: installed)
    (finding,) = doctor.check_nnunet()
    assert finding.state is state


@pytest.mark.parametrize(
    ("found", "state"), [((3, 9, 1), State.FAIL), ((3, 13, 0), State.OK), ((3, 14, 0), State.FAIL)]
)
def test_pythons_version_is_judged(found: tuple[int, int, int], state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", found)
    assert [f.state for f in doctor.check_python()] == [state]


@pytest.mark.parametrize(("state", "status"), [(State.OK, 0), (State.WARN, 0), (State.FAIL, 1)])
def test_the_exit_status_tells_whether_a_check_failed(
    state: State, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = Finding("a check", state, "this", "do that")
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [finding],))
    assert main(["doctor"]) == status
    assert capsys.readouterr().out == f"{state.value:<5} a check: this; do that\n"
    assert main(["doctor", "--json"]) == status
    assert json.loads(capsys.readouterr().out) == [
        {"check": "a check", "state": state.value, "found": "this", "fix": "do that"}
    ]
