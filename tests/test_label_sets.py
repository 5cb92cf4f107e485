"""Several label sets in one network: which outputs are a case's own, the loss over them, and the sets' files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunet_transfer.errors import DataError
from nnunet_transfer.files import write_text
from nnunet_transfer.pretraining.segmentation.label_sets import LabelSets, read_label_sets
from nnunet_transfer.pretraining.segmentation.set_outputs import LabelSetLoss, OwnOutputs

LABELS = {"Hammers": {"left": 1, "right": 2}, "Lobes": {"frontal": 3}}
TWO = LabelSets(LABELS, None, {"a": 0, "b": 0, "c": 1})
IGNORING = LabelSets(LABELS, 4, TWO.set_of)
ONE = LabelSets({"Hammers": {"left": 1, "right": 2, "frontal": 3}}, None, {"a": 0, "b": 0, "c": 0})
SHAPES = [(3, 8, 8), (3, 4, 4)]


def _loss(batch_dice: bool, ignore: int | None = None, deep: bool = True) -> nn.Module:
    """Return nnU-Net's own, as `nnUNetTrainer._build_loss` makes it."""
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)
    return DeepSupervisionWrapper(loss, [2 / 3, 1 / 3]) if deep else loss


def _outputs(channels: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, channels, *size, generator=generator, requires_grad=True) for n, *size in SHAPES]


def _target(values: list[list[int]], seed: int = 1) -> list[torch.Tensor]:
    """Return label maps in which each case has some of its own values."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.stack([torch.tensor(own)[torch.randint(len(own), (1, *size), generator=generator)] for own in values])
        for _, *size in SHAPES
    ]


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignore", [None, 4])
def test_one_set_has_nnunets_own_loss(batch_dice: bool, ignore: int | None, deep: bool) -> None:
    own = OwnOutputs(LabelSets(ONE.labels, ignore, ONE.set_of))
    own.note(["a", "b", "c"])
    outputs: Any = _outputs(4)
    target: Any = _target([[0, 1, 2, 3] + ([4] if ignore else [])] * 3)
    if not deep:
        outputs, target = outputs[0], target[0]
    plain = _loss(batch_dice, ignore, deep)
    expected = pytest.approx(plain(outputs, target).item(), abs=1e-6)
    assert LabelSetLoss(plain, own)(outputs, target).item() == expected
    with torch.no_grad():  # in validation
        assert LabelSetLoss(plain, own)(own(plain, (), outputs), target).item() == expected


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("sets", [TWO, IGNORING])
def test_each_set_has_the_loss_of_a_network_of_its_own(sets: LabelSets, batch_dice: bool) -> None:
    own = OwnOutputs(sets)
    own.note(["a", "c", "b"])
    extra = [] if sets.ignore is None else [sets.ignore]
    outputs, target = _outputs(5), _target([[0, 1, 2, *extra], [0, 3, *extra], [0, 1, 2, *extra]])
    set_loss = LabelSetLoss(_loss(batch_dice, sets.ignore), own)
    loss = set_loss(own(nn.Identity(), (), outputs), target)
    with torch.no_grad():
        assert set_loss(own(nn.Identity(), (), outputs), target).item() == pytest.approx(loss.item(), abs=1e-6)

    hammers = _loss(batch_dice, sets.ignore)([o[[0, 2], :3] for o in outputs], [t[[0, 2]] for t in target])
    # the network for lobes alone numbers its label 1, and what to ignore 2
    renumbered = [torch.where(t[[1]] == 3, 1, torch.where(t[[1]] == 4, 2, t[[1]])) for t in target]
    lobes = _loss(batch_dice, sets.ignore and 2)([o[[1], 3:] for o in outputs], renumbered)
    assert loss.item() == pytest.approx((2 * hammers + lobes).item() / 3, abs=1e-6)


def test_a_case_leaves_the_outputs_of_other_sets_alone() -> None:
    own = OwnOutputs(TWO)
    own.note(["a", "c", "b"])
    outputs = _outputs(5)
    LabelSetLoss(_loss(True), own)(own(nn.Identity(), (), outputs), _target([[0, 1, 2], [0, 3], [0, 1, 2]])).backward()
    for output in outputs:
        assert output.grad is not None
        assert (output.grad[[0, 2], 3:] == 0).all()
        assert (output.grad[1, :3] == 0).all()
        assert (output.grad[[0, 2], :3] != 0).all()
        assert (output.grad[1, 3:] != 0).all()


@given(st.integers(0, 1000), st.sampled_from([torch.float32, torch.float16]))
def test_only_a_cases_own_labels_are_predicted_also_after_averaging(seed: int, dtype: torch.dtype) -> None:
    own = OwnOutputs(TWO)
    logits = 5 * torch.randn(4, 5, 6, 6, generator=torch.Generator().manual_seed(seed))
    for case, group, values in (("a", slice(0, 3), [0, 1, 2]), ("c", slice(3, 5), [0, 3])):
        own.note([case])
        with torch.no_grad():
            out = own(nn.Identity(), (), logits.to(dtype))
        assert isinstance(out, torch.Tensor)
        assert out.shape == (4, 4, 6, 6)
        assert torch.equal(out.argmax(1), torch.tensor(values)[logits.to(dtype)[:, group].argmax(1)])
        weights = torch.rand(4, 1, 1, 1, generator=torch.Generator().manual_seed(seed))
        mean = (out.float() * weights).sum(0) / weights.sum()
        assert set(mean.argmax(0).unique().tolist()) <= set(values)


def test_outputs_stay_as_they_are_in_training() -> None:
    own = OwnOutputs(TWO)
    own.note(["a", "b", "c"])
    outputs = _outputs(5)
    assert own(nn.Identity(), (), outputs) is outputs


def test_a_batch_of_another_size_is_a_bug() -> None:
    own = OwnOutputs(TWO)
    own.note(["a", "c"])
    with torch.no_grad(), pytest.raises(ValueError, match="zip"):
        own(nn.Identity(), (), torch.zeros(3, 5, 4, 4))


def test_cases_are_drawn_in_inverse_proportion_to_the_root_of_their_sets_size() -> None:
    sets = LabelSets(LABELS, None, {**{f"a{i}": 0 for i in range(16)}, "b": 1, "c": 1, "d": 1, "e": 1})
    drawn = sets.sampled(list(sets.set_of))
    assert drawn.count("b") == 2 * drawn.count("a0")
    assert ONE.sampled(["a", "b"]) == ["a", "b"]


def _block(labels: Any, **others: int) -> dict[str, Any]:
    return {"labels": {"background": 0, "x": 1, "y": 2, "z": 3, **others}, "label_sets": labels}


@pytest.fixture
def written(nnunet_folders: Path) -> Path:
    path = nnunet_folders / "preprocessed/Dataset020_Pooled/label_sets.csv"
    write_text(path, "case,set\na,Hammers\nb,Hammers\nc,Lobes\n")
    return path


def test_sets_are_read(written: Path) -> None:
    sets = read_label_sets("Dataset020_Pooled", _block(LABELS, ignore=4), "abc")
    assert sets == IGNORING
    assert (sets.outputs, sets.values) == (5, 4)
    assert [sets.group(i) for i in (0, 1)] == [slice(0, 3), slice(3, 5)]
    assert [sets.values_of(i) for i in (0, 1)] == [[0, 1, 2], [0, 3]]
    assert sets.counts("ab") == {"Hammers": 2, "Lobes": 0}


@pytest.mark.parametrize(
    "labels",
    [
        [],
        {},
        {"A": {}},
        {"A": 1},
        {"A": {"x": 1, "y": 2}},
        {"A": {"x": 1, "y": 2}, "B": {"y": 2, "z": 3}},
        {"A": {"x": "1"}},
    ],
)
def test_a_block_that_contradicts_the_labels_is_refused(labels: Any, written: Path) -> None:
    with pytest.raises(DataError, match="must give each label's value to one set"):
        read_label_sets("Dataset020_Pooled", _block(labels), "abc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,set\na,Hammers\nb,Hammers\nc,Lobe\n", "there is no set Lobe in dataset.json; there are: Hammers, Lobes"),
        ("case,set\na,Hammers\nb,Hammers\n", "case c has no set"),
        ("case,sets\na,Hammers\n", r"column set is missing \(there is sets\)"),
        ("case,set\na,Hammers\na,Lobes\n", "case a is given twice"),
    ],
)
def test_a_faulty_table_of_sets_is_refused(text: str, message: str, written: Path) -> None:
    written.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_label_sets("Dataset020_Pooled", _block(LABELS), "abc")


def test_a_missing_table_of_sets_is_refused(written: Path) -> None:
    written.unlink()
    with pytest.raises(DataError, match=r"has no label_sets\.csv: .* columns case,set"):
        read_label_sets("Dataset020_Pooled", _block(LABELS), "abc")
