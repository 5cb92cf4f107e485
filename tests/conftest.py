"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from nnunet_transfer.training.progress_plot import ThrottledPlots
from tests.nnunet_data import Prepared, make_folders, no_plot

pytest_plugins = ["tests.costs"]

if TYPE_CHECKING:
    import pandas as pd

    from nnunet_transfer.comparison import Comparison
    from tests.finetuning_runs import Ready

# one thread per test process: the networks are tiny and the thread pools cost more than they give
os.environ.setdefault("OMP_NUM_THREADS", "1")

# property tests draw the same examples in every run, so that a run says what the change did; with HYPOTHESIS_NEW=1 they draw
# new ones, which find faults. A deadline would measure the machine.
settings.register_profile(
    "here", parent=settings(), deadline=None, derandomize=not os.environ.get("HYPOTHESIS_NEW"), print_blob=True
)
settings.load_profile("here")


@pytest.fixture(scope="session", autouse=True)
def _no_progress_plots() -> Iterator[None]:
    """Leave nnU-Net's figure of a training's progress out: it takes four times as long as the trainings of most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThrottledPlots, "plot_now", no_plot)
        yield


@pytest.fixture(scope="session", autouse=True)
def _signals_are_heard() -> None:
    """Let the commands that tests start be interrupted: `nohup` and scripts that start a suite with `&` let them ignore that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty nnU-Net folders under `tmp_path`, exported with no worker processes; returns their parent."""
    make_folders(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty registry of sources, exported; random weights are the same in every run."""
    import torch  # slow to import

    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)
    return tmp_path / "sources"


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings whose output layers are fitted to few patches, and that draw no figure."""
    from tests.cheap import make_cheap  # imports nnU-Net

    make_cheap(monkeypatch)


@pytest.fixture
def whole(cheap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as for a user, in a file whose other trainings are cheap."""
    from tests.cheap import make_whole

    make_whole(monkeypatch)


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two arms with two seeds and three folds, and both of them trained on three cases."""
    from tests.seeded_comparison import compare_seeds

    return compare_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.fixture
def cases(comparison: Comparison) -> pd.DataFrame:
    """The scores of all cases of `comparison`."""
    import pandas as pd

    return pd.read_csv(comparison.report.parent / "cases.csv")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """For each configuration, the folders with a preprocessed data set; to be copied, see `pretraining_runs.a_run`."""
    from tests.pretraining_runs import prepare  # imports nnU-Net

    return prepare(tmp_path_factory)


@pytest.fixture(scope="session")
def finetuning_target(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    """A preprocessed 2D data set and random sources; to be copied, see `ready`."""
    from tests.finetuning_runs import prepare_target  # imports nnU-Net

    return prepare_target(tmp_path_factory.mktemp("finetuning"))


@pytest.fixture
def ready(finetuning_target: Ready, nnunet_folders: Path) -> Ready:
    """A copy of `finetuning_target` in nnU-Net's folders."""
    root, dataset, plans = finetuning_target
    shutil.copytree(root, nnunet_folders, dirs_exist_ok=True)
    return nnunet_folders, dataset, plans


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small study that has run; to be read, or copied by `tests.studies.moved`."""
    from tests.studies import finished_study  # imports the study engine

    return finished_study(tmp_path_factory)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The private data folder; tests that need it are skipped, with the reason, where it is absent."""
    folder = Path(os.environ.get("NNUNET_TRANSFER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no private data folder at {folder}; set NNUNET_TRANSFER_DATA to run this test")
    return folder


#: files that take longest, in this order: started first, so that no worker is left alone with one at the end
LONGEST = (
    "test_chain.py",
    "test_study_run.py",
    "test_slurm.py",
    "test_faults.py",
    "test_study_whole.py",
    "test_study_changes.py",  # some time after test_study_run.py, whose finished study it takes
    "test_pretrainers_learning.py",
    "test_pretrainers.py",
    "test_docs_commands.py",
    "test_demo.py",
    "test_examples.py",
    "test_device_training.py",
    "test_self_supervised_family.py",
    "test_study_best.py",
    "test_finetuning.py",
    "test_finetuning_resuming.py",
    "test_fuzz.py",
    "test_synthesize_interrupts.py",
)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: archives hold the time, and workers whose names of tests differ run none of them."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
