"""The doctor names what killed processes left in nnU-Net's folders and in the registry, and nothing that is in use."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from nnunet_transfer import doctor
from nnunet_transfer.doctor.leftovers import QUIET
from nnunet_transfer.files import atomic_folder
from nnunet_transfer.work import id_held
from tests.conversion_commands import GOOD, case_r2, refusal
from tests.conversion_runs import run, write_cases
from tests.conversion_trees import image


def _age(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - QUIET - 60))


def _found() -> list[str]:
    return [str(finding) for finding in doctor.check_leftovers()]


@pytest.fixture
def killed() -> list[AbstractContextManager[Path]]:
    """Blocks that are entered and never left, as those of killed processes."""
    return []


@pytest.mark.parametrize("place", ["results/sources/mine", "preprocessed/Dataset004_Test/nnUNetPlans_2d"])
def test_a_folder_that_a_killed_process_was_writing_is_named_once_it_is_quiet(
    place: str, nnunet_folders: Path, killed: list[AbstractContextManager[Path]]
) -> None:
    killed.append(atomic_folder(nnunet_folders / place, overwrite=True))
    temporary = killed[0].__enter__()
    (temporary / "weights").write_text("half")
    assert _found() == []
    _age(temporary)
    (found,) = _found()
    assert f"{temporary} is what a killed process left of {Path(place).name}; rm -r {temporary}" in found
    (temporary / "weights").write_text("more")
    assert _found() == []


def test_what_was_moved_aside_is_moved_back_and_removed_if_there_is_a_new_one(nnunet_folders: Path) -> None:
    registry = nnunet_folders / "results" / "sources"
    old = registry / ".old-mine-abcd12_9" / "mine"
    old.mkdir(parents=True)
    _age(old.parent)
    (found,) = _found()
    assert "is the earlier mine, moved aside" in found
    subprocess.run(re.search("mv .*", found)[0], shell=True, check=True)
    assert (registry / "mine").is_dir()
    old.mkdir()
    _age(old.parent)
    (found,) = _found()
    assert found.endswith(f"; rm -r {old.parent}")


def test_an_unfinished_conversion_is_named_unless_it_runs(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal(nnunet_folders, capsys, "atlas_r2", GOOD | case_r2(3, image(3), image(3)))
    work = nnunet_folders / "raw" / ".making-Dataset004_Test"
    (found,) = _found()
    assert f"{work} is unfinished; run its command again, which goes on, or rm -r {work}" in found
    with id_held(nnunet_folders / "raw" / "Dataset004_Test"):
        assert _found() == []


def test_a_data_set_that_was_moved_aside_is_moved_back(nnunet_folders: Path) -> None:
    tree = write_cases(nnunet_folders / "source")
    folder = run(tree).folder
    folder.rename(folder.with_name(f".old-{folder.name}"))
    (found,) = _found()
    subprocess.run(re.search("mv .*", found)[0], shell=True, check=True)
    assert _found() == []
    assert run(tree).unchanged
