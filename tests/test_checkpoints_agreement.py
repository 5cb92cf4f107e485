"""What a file holds, what lies beside it and what the user says about it must agree."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnunet_transfer.checkpoints import inspect_checkpoint
from tests.checkpoint_files import build, plans_architecture

pytestmark = pytest.mark.usefixtures("registry")


@pytest.mark.parametrize("holder", ["state_dict", "model", "network_weights"])
def test_a_few_tensors_beside_the_weights_are_not_the_network(tmp_path: Path, holder: str) -> None:
    """Lightning and others store scores as tensors; with two entries they are half of the file's."""
    weights = build(plans_architecture()).state_dict()
    torch.save({holder: weights, "best_score": torch.tensor(0.5)}, tmp_path / "x.pth")
    assert inspect_checkpoint(tmp_path / "x.pth")["stages"] == 3
