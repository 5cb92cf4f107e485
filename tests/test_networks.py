"""STU-Net and Models Genesis' U-Net: read from their layouts, they compute what was recorded from the originals."""

from __future__ import annotations

import json
import pydoc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_transfer.adaptation import AdaptationRules, transfer_weights
from nnunet_transfer.adaptation.parts import family_of, part_of
from nnunet_transfer.checkpoints import Reading, add_source, inspect_checkpoint
from nnunet_transfer.checkpoints.shapes import (
    ANATOMIX_UNET,
    GENESIS_UNET,
    MONAI_UNET,
    OWN_NETWORKS,
    STUNET,
    architecture_from_shapes,
)
from nnunet_transfer.cli import main
from nnunet_transfer.errors import AdaptationError, CheckpointError
from nnunet_transfer.plans.architectures import from_card, with_dimensions
from nnunet_transfer.sources import Source, load_source
from nnunet_transfer.sources.keys import canonical
from tests.checkpoint_files import build, nnunet_run, plans_architecture
from tests.recorded.formula import fill, image, summary

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "networks.json").read_text())
STUNETS = [name for name in RECORDED if name.startswith("STU-Net")]
CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)


def weights(name: str) -> dict[str, torch.Tensor]:
    """Return the original's state dict, filled by the formula as it was when its features were recorded."""
    tensors = {key: torch.zeros(shape) for key, shape in RECORDED[name]["tensors"].items()}
    fill({k: t for k, t in tensors.items() if not k.endswith("num_batches_tracked")})
    return tensors


def content(name: str) -> dict[str, Any]:
    """Return a file's content as its publisher lays it out."""
    own = weights(name)
    if name == "SuPreM":
        return {"net": {f"module.backbone.{k}": t for k, t in own.items()}, "epoch": 2100}
    if name == "Models Genesis":
        return {"state_dict": {f"module.{k}": t for k, t in own.items()}, "epoch": 1}
    strides = RECORDED[name]["strides"]
    if strides == [[2, 2, 2]] * 5:
        return {"epoch": 4000, "state_dict": own, "optimizer_state_dict": None, "plot_stuff": ([], [])}
    plans = {"configurations": {"3d_fullres": {"pool_op_kernel_sizes": [[1, 1, 1], *strides[:4]]}}}
    return {"network_weights": own, "init_args": {"plans": plans, "configuration": "3d_fullres"}}


def added(name: str, folder: Path) -> Source:
    path = folder / "file.model"
    torch.save(content(name), path)
    add_source(path, "s", task="segmentation", domain="ct")
    return load_source("s")


def built(source: Source, channels: int | None = None, labels: int = 2, dimensions: int = 3) -> nn.Module:
    architecture = with_dimensions(from_card(source.card.architecture), dimensions)
    return build(architecture, channels or source.card.input_channels, labels)


def close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["shape"] == expected["shape"]
    for key in ("mean", "std", "values"):
        torch.testing.assert_close(torch.tensor(found[key]), torch.tensor(expected[key]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RECORDED)
def test_all_features_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    record = RECORDED[name]
    source = added(name, tmp_path)
    network = built(source).eval()
    report = transfer_weights(network, source)
    assert report.coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}
    assert {d.part for d in report.decisions if d.status == "initialised"} == {"head"}
    found = {}
    for part, stages in (("encoder", network.encoder.stages), ("decoder", network.decoder.stages)):
        for number, stage in enumerate(stages):
            stage.register_forward_hook(lambda _, __, out, key=f"{part} {number}": found.__setitem__(key, summary(out)))
    with torch.no_grad():
        segmentation = network(image(tuple(record["image"])))
    assert segmentation.shape[2:] == tuple(record["image"][2:])
    assert found.keys() == record["features"].keys()
    for key, expected in record["features"].items():
        close(found[key], expected)


@pytest.mark.parametrize(
    ("width", "blocks", "millions"), [(16, 1, 14.60), (32, 1, 58.26), (64, 2, 440.30), (96, 3, 1457.33)]
)
def test_stunet_s_sizes_are_the_published_ones(width: int, blocks: int, millions: float) -> None:
    """Parameters with 105 classes, from the table in the authors' README."""
    kwargs = stunet_kwargs(features=[width * f for f in (1, 2, 4, 8, 16, 16)], blocks=blocks)
    with torch.device("meta"):
        network = build(own_architecture(STUNET, kwargs), 1, 105)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)
    found = architecture_from_shapes(canonical(network.state_dict()))
    assert found == {"network_class_name": STUNET, "arch_kwargs": kwargs, "arch_kwargs_req_import": IMPORTS}


IMPORTS = ["conv_op", "norm_op", "nonlin"]


def stunet_kwargs(features: list[int], blocks: int = 1, dims: int = 3) -> dict[str, Any]:
    n = len(features)
    return {
        "n_stages": n,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[3] * dims] * n,
        "strides": [[1] * dims] + [[2] * dims] * (n - 1),
        "conv_bias": True,
        "nonlin_kwargs": {"inplace": True},
        "n_blocks_per_stage": [blocks] * n,
        "n_conv_per_stage_decoder": [blocks] * (n - 1),
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }


def genesis_kwargs(features: list[int], dims: int = 3) -> dict[str, Any]:
    kwargs = stunet_kwargs(features, dims=dims)
    del kwargs["n_blocks_per_stage"], kwargs["n_conv_per_stage_decoder"]
    return kwargs | {
        "norm_op": f"torch.nn.modules.batchnorm.BatchNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True, "track_running_stats": False},
        "nonlin": "torch.nn.ReLU",
    }


def own_architecture(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"network_class_name": name, "arch_kwargs": kwargs, "_kw_requires_import": IMPORTS}


def monai_kwargs(features: list[int], bottom: int, count: int = 2, dims: int = 3) -> dict[str, Any]:
    kwargs = stunet_kwargs(features, dims=dims)
    del kwargs["n_blocks_per_stage"], kwargs["n_conv_per_stage_decoder"]
    return kwargs | {
        "n_conv_per_stage": [count] * len(features),
        "bottom_channels": bottom,
        "norm_op_kwargs": {"eps": 1e-5, "affine": False},
        "nonlin": "torch.nn.PReLU",
        "nonlin_kwargs": {},
    }


def anatomix_kwargs(features: list[int], last: int, dims: int = 3) -> dict[str, Any]:
    kwargs = stunet_kwargs(features, dims=dims)
    del kwargs["n_blocks_per_stage"], kwargs["n_conv_per_stage_decoder"]
    return kwargs | {
        "output_features": last,
        "pooling": "average",
        "upsampling": "linear",
        "norm_op_kwargs": {"eps": 1e-2, "affine": False},
        "nonlin": "torch.nn.ReLU",
    }


ARCHITECTURES = {
    "STU-Net": lambda dims=3: own_architecture(STUNET, stunet_kwargs([4, 6, 8], 2, dims)),
    "Models Genesis": lambda dims=3: own_architecture(GENESIS_UNET, genesis_kwargs([4, 6, 8], dims)),
    "MONAI": lambda dims=3: own_architecture(MONAI_UNET, monai_kwargs([4, 6, 3], 5, dims=dims)),
    "MONAI without residual units": lambda dims=3: own_architecture(MONAI_UNET, monai_kwargs([4, 6, 3], 5, 0, dims)),
    "anatomix": lambda dims=3: own_architecture(ANATOMIX_UNET, anatomix_kwargs([2, 4, 8], 5, dims)),
}


def test_every_network_of_ours_is_found_by_its_name() -> None:
    for name in OWN_NETWORKS:
        assert issubclass(pydoc.locate(name), nn.Module)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("dims", [2, 3])
def test_nnunet_s_trainers_find_what_they_need(kind: str, dims: int) -> None:
    network = build(ARCHITECTURES[kind](dims), 2, 3).train()
    x = torch.randn(2, 2, *(16,) * dims)
    network.decoder.deep_supervision = True
    assert [tuple(y.shape) for y in network(x)] == [(2, 3, *(n,) * dims) for n in (16, 8)]
    sum(y.sum() for y in network(x)).backward()
    assert all(p.grad is not None for p in network.parameters())
    network.decoder.deep_supervision = False
    assert network.eval()(x).shape == (2, 3, *(16,) * dims)
    assert network.encoder(x)[-1].shape[1] == network.encoder.output_channels[-1] == 8
    assert all(part_of(key) for key, _ in network.named_parameters())
    # He's initialisation as nnU-Net's, which leaves no bias
    assert not any(p.any() for n, p in network.named_parameters() if "conv" in n and n.endswith("bias"))


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("supervised", [False, True])
def test_memory_is_counted_as_nnunet_counts_it(kind: str, supervised: bool) -> None:
    """The values in the outputs of all convolutions, counted by running them."""
    network = build(ARCHITECTURES[kind](), 1, 3).eval()
    network.decoder.deep_supervision = supervised
    counted = []
    repeated = [m.conv for m in network.modules() if type(m).__name__ == "Enlarge"]
    for module in network.modules():
        # what is enlarged by repeating voxels is stored at the larger size
        if type(module).__name__ in ("Enlarge", "Upsample") or (
            isinstance(module, CONVOLUTIONS) and module not in repeated
        ):
            module.register_forward_hook(lambda _, __, out: counted.append(out.numel()))
    with torch.no_grad():
        network(torch.zeros(1, 1, 16, 8, 24))
    assert sum(counted) == network.compute_conv_feature_map_size((16, 8, 24))


@pytest.mark.parametrize("name", [STUNETS[1], "Models Genesis"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rule", ["mean", "repeat"])
def test_equal_channels_give_the_same_features(name: str, channels: int, rule: str, tmp_path: Path) -> None:
    """STU-Net's image is read by two convolutions: both must keep the response."""
    source = added(name, tmp_path)
    before, after = built(source).eval(), built(source, channels).eval()
    transfer_weights(before, source)
    report = transfer_weights(after, source, rules=AdaptationRules(input_channels=rule))
    changed = [d.key for d in report.decisions if any("input channels" in str(s) for s in d.steps)]
    expected = ["conv1", "conv3"] if name in STUNETS else ["conv1"]
    assert [k.split(".")[-2] for k in changed] == (expected if channels != source.card.input_channels else [])
    x = image((1, 1, 64, 32, 32))
    with torch.no_grad():
        for a, b in zip(
            before.encoder(x.expand(-1, source.card.input_channels, -1, -1, -1))[:3],
            after.encoder(x.expand(-1, channels, -1, -1, -1))[:3],
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [STUNETS[0], "Models Genesis"])
def test_2d_networks_take_the_sum_along_the_first_axis(name: str, tmp_path: Path) -> None:
    """On an image that is constant along it, the first convolutions give the same inside the volume."""
    source = added(name, tmp_path)
    deep, flat = built(source).eval(), built(source, dimensions=2).eval()
    transfer_weights(deep, source)
    assert transfer_weights(flat, source).coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}
    x = image((1, 1, 16, 16))
    volume = x.unsqueeze(2).expand(-1, -1, 9, -1, -1)
    convolutions = ["0.0.conv1", "0.0.conv3"] if name in STUNETS else ["0.ops.0.conv1"]
    for convolution in convolutions:
        y, z = (n.encoder.stages.get_submodule(convolution) for n in (deep, flat))
        torch.testing.assert_close(y(volume)[:, :, 4], z(x), rtol=1e-4, atol=1e-4)
    up, flat_up = deep.decoder.transpconvs[0], flat.decoder.transpconvs[0]
    features = image((1, flat.encoder.output_channels[-1], 4, 4))
    along = up(features.unsqueeze(2).expand(-1, -1, 3, -1, -1)).mean(2)
    torch.testing.assert_close(along, flat_up(features), rtol=1e-4, atol=1e-4)


def test_families_are_never_mixed(tmp_path: Path) -> None:
    sources = {}
    for kind, architecture in {
        **{k: a() for k, a in ARCHITECTURES.items()},
        "plain": plans_architecture(residual=False),
        "residual": plans_architecture(),
    }.items():
        torch.save(nnunet_run(build(architecture), architecture), tmp_path / "x.pth")
        add_source(tmp_path / "x.pth", kind.replace(" ", "_"), task="segmentation", domain="t1")
        sources[kind] = load_source(kind.replace(" ", "_"))
    assert len({family_of(s.tensors()) for s in sources.values()}) == len(sources)
    for kind, source in sources.items():
        for other, target in sources.items():
            network = built(target)
            before = {k: t.clone() for k, t in network.state_dict().items()}
            if kind == other:
                assert transfer_weights(network, source).coverage["encoder"] == 1.0
            else:
                with pytest.raises(AdaptationError, match=rf"plan --source {source.card.name}"):
                    transfer_weights(network, source)
                assert all(torch.equal(t, before[k]) for k, t in network.state_dict().items())


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_runs_of_these_networks_and_mapped_keys_are_read(kind: str, tmp_path: Path) -> None:
    """What nnU-Net saves after fine-tuning such a network is a source again."""
    architecture = ARCHITECTURES[kind]()
    network = build(architecture)
    torch.save(nnunet_run(network, architecture), tmp_path / "run.pth")
    add_source(tmp_path / "run.pth", "run", task="segmentation", domain="t1")
    card = load_source("run").card
    assert (card.format, card.parts) == ("nnU-Net v2", "encoder+decoder")
    assert from_card(card.architecture) == architecture
    tensors = load_source("run").tensors()
    assert tensors.keys() == dict(network.named_parameters()).keys()
    torch.save({k.replace("encoder.", "down."): t for k, t in network.state_dict().items()}, tmp_path / "odd.pth")
    (tmp_path / "map.txt").write_text("^down = encoder\n")
    found = inspect_checkpoint(tmp_path / "odd.pth", reading=Reading(key_map=tmp_path / "map.txt"))
    assert found["network"] == architecture["network_class_name"].rsplit(".", 1)[-1]


@pytest.mark.parametrize("name", RECORDED)
def test_inspect_says_what_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(content(name), path)
    found = inspect_checkpoint(path)
    record = RECORDED[name]["tensors"]
    stunet = name in STUNETS
    assert found["format"] == ("STU-Net" if stunet else "Models Genesis' U-Net")
    assert (found["network"], found["stages"]) == (("STUNet", 6) if stunet else ("GenesisUNet", 4))
    assert (found["dimensions"], found["parts"]) == (3, "encoder+decoder")
    learned = [k for k in record if "running" not in k and "tracked" not in k and "out_tr" not in k]
    assert found["parameters"] == sum(torch.Size(record[k]).numel() for k in learned)
    assert "need this package" in found["notes"][0]
    assert {"STU-Net": "2304.06716", "Models": "Models Genesis", "SuPreM": "How well"}[
        name.split(",")[0].split()[0]
    ] in (found["citation"])


@pytest.mark.parametrize("wrap", ["", "module.", "_orig_mod.", "model.", "module.backbone.", "net."])
@pytest.mark.parametrize("name", [STUNETS[0], "Models Genesis"])
def test_prefixes_are_dropped(name: str, wrap: str, tmp_path: Path) -> None:
    own = weights(name)
    torch.save({"state_dict": {wrap + k: t for k, t in own.items()}, "epoch": 1}, tmp_path / "x.pth")
    found = inspect_checkpoint(tmp_path / "x.pth")
    assert found["stages"] == (6 if name in STUNETS else 4)
    assert found["parts"] == "encoder+decoder"


def test_an_encoder_alone_is_taken(tmp_path: Path) -> None:
    for name, start in ((STUNETS[0], "conv_blocks_context."), ("Models Genesis", "down_tr")):
        own = {k: t for k, t in weights(name).items() if k.startswith(start)}
        torch.save(own, tmp_path / "x.pth")
        add_source(tmp_path / "x.pth", "s", task="segmentation", domain="ct", overwrite=True)
        source = load_source("s")
        assert source.card.parts == "encoder"
        assert transfer_weights(built(source), source).coverage["encoder"] == 1.0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Models Genesis", lambda k: "down_tr256" in k and ".ops.1." in k, "stage 2 has convolutions of 128 channels"),
        (STUNETS[0], lambda k: k.startswith("conv_blocks_context.2."), "the file is incomplete"),
        (STUNETS[0], lambda k: k == "conv_blocks_context.3.0.conv1.weight", "the file is incomplete"),
    ],
)
def test_incomplete_files_are_refused(name: str, change: Any, message: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {k: t for k, t in weights(name).items() if not change(k)}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "key",
    [
        "conv_blocks_context.99999999.0.conv3.weight",
        "conv_blocks_context.0.99999999.conv3.weight",
        "down_tr64.ops.99999999.conv1.weight",
        "down_tr99999999.ops.0.conv1.weight",
    ],
)
def test_forged_numbers_are_one_line(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({key: torch.zeros(2, 2, 1, 1, 1), key.replace("conv3", "conv1"): torch.zeros(2)}, tmp_path / "x.pth")
    assert main(["sources", "inspect", str(tmp_path / "x.pth")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_nonlinearity_with_weights_is_refused(tmp_path: Path) -> None:
    own = weights("Models Genesis") | {"down_tr64.ops.0.activation.weight": torch.zeros(32)}
    torch.save({"state_dict": own}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="nonlinearity has weights"):
        inspect_checkpoint(tmp_path / "x.pth")


def test_instance_norm_by_plan_is_noted(tmp_path: Path) -> None:
    source = added("Models Genesis", tmp_path)
    architecture = from_card(source.card.architecture)
    architecture["arch_kwargs"] |= {
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    }
    network = build(architecture, 1)
    report = transfer_weights(network, source)
    assert report.coverage["encoder"] == 1.0
    assert "norm: BatchNorm3d in the source, InstanceNorm3d here" in report.notes
    # with one image in the batch both norms are the same function
    original = built(source).eval()
    transfer_weights(original, source)
    x = image((1, 1, 16, 16, 16))
    with torch.no_grad():
        for a, b in zip(network.eval().encoder(x), original.encoder(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
