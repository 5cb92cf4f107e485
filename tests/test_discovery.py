"""nnU-Net's look-up finds the trainers, always the same classes, and they unpickle in child processes."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_transfer.discovery import VARIABLE, search_path
from nnunet_transfer.discovery import __path__ as discovery_path
from nnunet_transfer.errors import SettingsError
from nnunet_transfer.naming import ARMS, PRETRAINERS, TRANSFER
from nnunet_transfer.trainers import get_trainer_class

NAMES = [*ARMS, TRANSFER, *PRETRAINERS, "nnUNetTrainerT1Segmentation_full_encoderOnly_5cases_7epochs_3iterations_seed1"]

LOOK_UP = """
import multiprocessing, sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find

def report(cls):
    return cls.__module__ + " " + cls.__name__

if __name__ == "__main__":
    names = sys.argv[1:]
    classes = [find(name) for name in names]
    assert classes == [find(name) for name in names], "two look-ups gave two classes"
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(1) as pool:
            answers = pool.map(report, classes)
        assert answers == [report(c) for c in classes], answers
        print(method, "found", len(classes))
"""


@pytest.mark.slow
def test_lookup_gives_picklable_classes_under_each_start_method(tmp_path: Path, nnunet_folders: Path) -> None:
    script = tmp_path / "look_up.py"
    script.write_text(LOOK_UP)
    run = subprocess.run([sys.executable, str(script), *NAMES], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = run.stdout.splitlines()  # nnU-Net tells of its search, too
    assert all(f"{method} found {len(NAMES)}" in told for method in multiprocessing.get_all_start_methods())


@pytest.mark.parametrize("name", NAMES)
def test_look_up_by_name_gives_one_class_named_so(name: str, nnunet_folders: Path) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    found = recursive_find_trainer_class_by_name(name)
    assert found is recursive_find_trainer_class_by_name(name)
    assert found is get_trainer_class(name)
    assert found.__name__ == name
    assert str(found.settings) == name
    assert pickle.loads(pickle.dumps(found)) is found


def test_other_trainers_are_left_to_nnunet(nnunet_folders: Path) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    assert recursive_find_trainer_class_by_name("nnUNetTrainer").__name__ == "nnUNetTrainer"
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer"):
        recursive_find_trainer_class_by_name("nnUNetTrainerOfSomebodyElse")


def test_misspelt_suffix_ends_with_one_line(nnunet_folders: Path) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with pytest.raises(SystemExit, match=r"unknown suffix _10epoch.*did you mean _10epochs"):
        recursive_find_trainer_class_by_name("nnUNetTrainerScratch_10epoch")


def test_a_misspelt_trainer_ends_with_one_line(nnunet_folders: Path) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with pytest.raises(SystemExit, match="unknown trainer nnUNetTrainerScrach; did you mean nnUNetTrainerScratch"):
        recursive_find_trainer_class_by_name("nnUNetTrainerScrach_10epochs")


def test_a_folder_searched_later_may_have_a_similar_trainer(
    tmp_path: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    (tmp_path / "own.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerScratchy(nnUNetTrainer): pass\n"
    )
    monkeypatch.setenv(VARIABLE, search_path(str(tmp_path)))
    assert recursive_find_trainer_class_by_name("nnUNetTrainerScratchy").__module__ == "own"


def test_a_class_of_ones_own_with_a_prefix_of_ours_is_used_or_the_message_says_why_not(
    tmp_path: Path, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerScratch_topK(nnUNetTrainer): pass\n"
        "class nnUNetTrainerScratch_5epochs(nnUNetTrainer): pass\n"
    )
    (tmp_path / "mine" / ".#own.py").symlink_to("me@here.123")  # Emacs's lock, which nnU-Net doesn't read
    (tmp_path / "mine" / "older.py").mkdir()
    monkeypatch.setenv(VARIABLE, search_path(str(tmp_path / "mine")))
    assert recursive_find_trainer_class_by_name("nnUNetTrainerScratch_topK").__module__ == "own"
    assert not caplog.records
    assert recursive_find_trainer_class_by_name("nnUNetTrainerScratch_5epochs").settings.epochs == 5
    assert f"{tmp_path / 'mine' / 'own.py'} is not used" in caplog.text
    with pytest.raises(SystemExit, match="unknown suffix _topJ"):
        recursive_find_trainer_class_by_name("nnUNetTrainerScratch_topJ")


@pytest.mark.parametrize("variable", ["nnUNet_preprocessed", "nnUNet_results"])
def test_a_training_without_folders_ends_with_one_line_and_prediction_needs_none(
    variable: str, nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "argv", ["/anywhere/nnUNetv2_predict_from_modelfolder"])
    assert recursive_find_trainer_class_by_name("nnUNetTrainerScratch")
    monkeypatch.setattr(sys, "argv", ["/anywhere/nnUNetv2_train"])
    with pytest.raises(SystemExit, match=f"{variable} is not set"):
        recursive_find_trainer_class_by_name("nnUNetTrainerScratch")


def test_a_labs_own_subclass_keeps_the_settings_of_its_base() -> None:
    base = get_trainer_class("nnUNetTrainerScratch_3epochs")
    own = type("OurTrainer", (base,), {})
    assert own.settings.epochs == 3


def test_unknown_base_is_refused() -> None:
    with pytest.raises(SettingsError, match="did you mean nnUNetTrainerScratch"):
        get_trainer_class("nnUNetTrainerScrach")


def test_only_the_shim_lies_in_the_discovery_folder() -> None:
    files = {p.name for p in Path(discovery_path[0]).iterdir() if p.suffix == ".py"}
    assert files == {"__init__.py", "nnunet_transfer_shim.py"}
