"""What a laboratory adds to the package: by a program, and by the installed package that docs/extending.md shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import nnunet_transfer as nt
from nnunet_transfer.errors import SettingsError, TransferError
from nnunet_transfer.evaluation.protocols import PRESETS, LesionProtocol
from nnunet_transfer.naming import ARMS, is_ours, parse_trainer_name
from nnunet_transfer.recipes import RECIPES, WHOLE, Optimiser, Phase, Recipe
from nnunet_transfer.registration import Registry, did_you_mean
from tests.lab_package import install

#: what a user of the lab's package does, through nnU-Net's own look-up and the commands
USE = """
import json, pickle, sys
from pathlib import Path
import torch
from nnunet_transfer.checkpoints import inspect_checkpoint
from nnunet_transfer.cli import main
from nnunet_transfer.conversion.catalogue import all_descriptions
from nnunet_transfer.errors import TransferError
from nnunet_transfer.evaluation.protocols import get_protocol
from nnunet_transfer.recipes import DECODER_ALONE, WHOLE
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from tests.checkpoint_files import build, plans_architecture

name = "nnUNetTrainerCTSegmentation_lateEncoder"
trainer = recursive_find_trainer_class_by_name(name)
assert trainer is pickle.loads(pickle.dumps(trainer)), trainer
assert trainer.source_name(object.__new__(trainer)) == "ct_segmentation"
recipe = object.__new__(trainer).recipe
assert (recipe.at(49, 100).trained, recipe.at(50, 100).trained) == (DECODER_ALONE, WHOLE)
assert main(["trainers", name]) == 0
assert "more than 0.5" in get_protocol("lab").describe()
assert "lab_ms" in all_descriptions()
work = Path(sys.argv[1])
weights = {f"student.{key}": tensor for key, tensor in build(plans_architecture()).state_dict().items()}
torch.save({"lab_version": 2, "state_dict": weights}, work / "two.pth")
torch.save({"lab_version": 1, "state_dict": weights}, work / "one.pth")
content = inspect_checkpoint(work / "two.pth")
assert (content["format"], content["stages"], content["parts"]) == ("our laboratory's", 3, "encoder+decoder"), content
try:
    inspect_checkpoint(work / "one.pth")
except TransferError as error:
    assert "version 1 of our layout" in str(error)
else:
    raise AssertionError("version 1 was read")
print(json.dumps("used"))
"""


@pytest.mark.slow
def test_the_package_of_the_docs_is_installed_and_used(nnunet_folders: Path) -> None:
    paths = [str(install(nnunet_folders)), str(Path(nt.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    run = subprocess.run(
        [sys.executable, "-c", USE, str(nnunet_folders)], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == "used"


@pytest.fixture
def _as_before() -> Iterator[None]:
    before = [(table, set(table)) for table in (ARMS, RECIPES, PRESETS)]
    yield
    for table, names in before:
        for name in set(table) - names:
            table.unregister(name)


@pytest.mark.usefixtures("_as_before")
def test_a_program_registers_an_arm_and_a_recipe() -> None:
    nt.register_arm("nnUNetTrainerLab", source="lab")
    nt.register_recipe(Recipe("slow", "as full", (Phase("whole network", 1.0),)))
    assert is_ours("nnUNetTrainerLab_slow_seed1")
    assert parse_trainer_name("nnUNetTrainerLab_slow_seed1").recipe == "slow"
    from nnunet_transfer.trainers import get_trainer_class

    trainer = get_trainer_class("nnUNetTrainerLab_slow_seed1")
    assert trainer.source_name(object.__new__(trainer)) == "lab"
    assert get_trainer_class("nnUNetTrainerLab") in trainer.__mro__
    nt.register_arm("nnUNetTrainerLab", source="lab")  # the same again changes nothing
    with pytest.raises(SettingsError, match="already an entry nnUNetTrainerLab"):
        nt.register_arm("nnUNetTrainerLab", source="other")


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: nt.register_arm("nnUNetTrainer_Lab", source="lab"), "without '_'"),
        (lambda: nt.register_arm("LabTrainer", source="lab"), "can't name an arm"),
        (lambda: nt.register_arm("nnUNetTrainerLab", source=""), "source's name"),
        (lambda: nt.register_arm("nnUNetTrainerScratch", source="lab"), "already an entry"),
        (lambda: nt.register_recipe(Recipe("5cases", "", (Phase("all", 1.0),))), "can't be a suffix"),
        (lambda: nt.register_recipe(Recipe("seed5", "", (Phase("all", 1.0),))), "can't be a suffix"),
        (lambda: nt.register_recipe(Recipe("half", "", (Phase("all", 0.5, WHOLE),))), "add up to 1"),
        (lambda: nt.register_recipe(Recipe("noMirroring", "", (Phase("all", 1.0),))), "can't be a suffix"),
        (
            lambda: nt.register_recipe(
                Recipe("mine", "", (Phase("all", 1.0),), optimiser=Optimiser("Adam", 1e-4, 0.0))
            ),  # type: ignore[arg-type]
            "no optimiser 'Adam'; there are: SGD, AdamW",
        ),
        (
            lambda: nt.register_recipe(Recipe("mine", "", (Phase("all", 1.0),), heads="byName")),  # type: ignore[arg-type]
            "'byName'; there are: random, fitted, by name",
        ),
        (
            lambda: nt.register_recipe(Recipe("mine", "", (Phase("all", 1.0, frozenset({"heads"})),))),
            "'all' trains heads; there are: decoder, encoder, head, stem",
        ),
        (lambda: nt.register_protocol(LesionProtocol("atlas_r2", "other", 26)), "already an entry"),
        (lambda: nt.register_format(SimpleNamespace(name="lab")), "register a Format"),  # type: ignore[arg-type]
        (lambda: nt.register_dataset(SimpleNamespace(name="lab")), "DatasetDescription"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(register: object, message: str) -> None:
    with pytest.raises(TransferError, match=message) as caught:
        register()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_broken_entry_point_is_named_and_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[nnunet_transfer.colours]\nblue = no_such_module:X\n")
    monkeypatch.syspath_prepend(tmp_path)
    colours = Registry("colours", {"red": 1})
    assert (colours["red"], list(colours), "green" in colours) == (1, ["red", "blue"], False)
    with pytest.raises(SettingsError, match=r"entry point blue = no_such_module:X of broken can't be used"):
        colours["blue"]


def test_a_near_name_is_suggested() -> None:
    assert did_you_mean("sawtoth", RECIPES) == "did you mean sawtooth?"
    assert did_you_mean("xyz", []) == "there are: none"
    # what begins so is meant, however long it goes on
    assert did_you_mean("gentle", RECIPES) == "did you mean gentleBody?"
    assert did_you_mean("xyz", RECIPES, otherwise="see the list") == "see the list"


def test_names_are_compared_in_one_place() -> None:
    package = Path(nt.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "difflib" in path.read_text(encoding="utf-8")] == [
        "registration.py"
    ]
