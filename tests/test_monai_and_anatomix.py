"""SynthStroke, other U-Nets of MONAI's, and anatomix: read from their layouts, they compute what the originals do."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nnunet_transfer.adaptation import AdaptationRules, transfer_weights
from nnunet_transfer.adaptation.parts import family_of
from nnunet_transfer.checkpoints import add_source, inspect_checkpoint
from nnunet_transfer.cli import main
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.sources import Source, load_source
from nnunet_transfer.sources.leakage import leakage_warnings, overlap_warnings
from tests.file_server import serving, take_the_hubs_place
from tests.recorded.formula import fill, image, summary
from tests.test_networks import built, close

#: of the originals: MONAI 1.5.1's `UNet` and anatomix' `Unet`, with weights by `formula`
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "monai_and_anatomix.json").read_text())
MONAI = "MONAI's U-Net, two convolutions a unit"
DYNUNET = "MONAI's DynUNet"
SMALL = [name for name in RECORDED if name not in ("SynthStroke", DYNUNET)]


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    torch.manual_seed(0)


def weights(name: str) -> dict[str, torch.Tensor]:
    """Return the original's state dict, filled by the formula as it was when its features were recorded."""
    tensors = {key: torch.zeros(shape) for key, shape in RECORDED[name]["tensors"].items()}
    # MONAI's DynUNet nests its layers once more: the same tensors
    plain = {k: t for k, t in tensors.items() if not k.startswith(("skip_layers.", "heads."))}
    fill({k: t for k, t in plain.items() if not k.endswith("num_batches_tracked")})
    return tensors


def written(name: str, folder: Path, settings: dict[str, Any] | None = None) -> Path:
    """Write a file as its publisher lays it out; return its path."""
    own = weights(name)
    stated = RECORDED[name].get("settings") if settings is None else settings
    if name == "SynthStroke":
        save_file(own, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({**stated, "model_type": "synth"} if stated else {}))
        (folder / "README.md").write_text("---\nlicense: mit\nlibrary_name: pytorch\n---\n# Synth\n")
        return folder / "model.safetensors"
    if name.startswith("anatomix"):
        torch.save({f"_orig_mod.{key}": tensor for key, tensor in own.items()}, folder / f"{name}.pth")
        return folder / f"{name}.pth"
    for part in ("models", "configs"):
        (folder / part).mkdir(exist_ok=True)
    torch.save(own, folder / "models" / "model.pt")
    network = {"_target_": "UNet", **stated}
    (folder / "configs" / "inference.json").write_text(json.dumps({"network_def": network} if stated else {}))
    labels = {str(i): f"label {i}" for i in range(3)} | {"0": "background"}
    metadata = {
        "data_source": "a public set",
        "references": ["Somebody et al., 2020"],
        "network_data_format": {
            "inputs": {"image": {"num_channels": 2, "channel_def": {"0": "T1", "1": "FLAIR"}}},
            "outputs": {"pred": {"num_channels": 3, "channel_def": labels}},
        },
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    return folder / "models" / "model.pt"


def added(name: str, folder: Path) -> Source:
    add_source(written(name, folder), "s", task="segmentation", domain="t1", overwrite=True)
    return load_source("s")


@pytest.mark.parametrize("name", RECORDED)
def test_all_features_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    record = RECORDED[name]
    source = added(name, tmp_path)
    dimensions = len(record["image"]) - 2
    network = built(source, labels=record["output"]["shape"][1], dimensions=dimensions).eval()
    report = transfer_weights(network, source)
    assert report.coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}
    assert {d.part for d in report.decisions if d.status == "initialised"} == {"head"}
    found = {}
    for part, stages in (("encoder", network.encoder.stages), ("decoder", network.decoder.stages)):
        for number, stage in enumerate(stages):
            stage.register_forward_hook(lambda _, __, out, key=f"{part} {number}": found.__setitem__(key, summary(out)))
    with torch.no_grad():
        segmentation = network(image(tuple(record["image"])))
    assert found.keys() == record["features"].keys()
    for key, expected in record["features"].items():
        close(found[key], expected)
    assert segmentation.shape == tuple(record["output"]["shape"])
    if not name.startswith("anatomix"):
        # the kept output layer gives the original's output
        own = source.tensors()
        for kind in ("weight", "bias"):
            network.decoder.seg_layers[-1].get_parameter(kind).data = own[
                f"decoder.seg_layers.{len(network.decoder.seg_layers) - 1}.{kind}"
            ]
        with torch.no_grad():
            close(summary(network(image(tuple(record["image"])))), record["output"])


def test_synthstroke_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written("SynthStroke", tmp_path)
    assert main(["sources", "inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["network"], found["stages"]) == ("MONAI's U-Net", "MonaiUNet", 6)
    assert (found["licence"], found["channel_names"], found["spacing"]) == ("MIT", ["T1"], [1.0, 1.0, 1.0])
    assert found["trained_on"] == ["ATLAS", "OASIS-3"]
    assert found["outputs"][0] == "background"
    assert found["outputs"][-1] == "lesion"
    assert "robust stroke segmentation" in found["citation"]
    assert any("has seen the target's lesions" in note for note in found["notes"])
    assert any("grey matter" in use and "lesion" in use for use in found["uses"])
    # 18.6 million, as Hugging Face counts them, and the output layer that hands on the original's output
    assert (
        found["parameters"] == sum(torch.Size(s).numel() for s in RECORDED["SynthStroke"]["tensors"].values()) + 6 * 7
    )
    assert found["parameters"] == pytest.approx(18.6e6, rel=0.01)
    add_source(path, "synth", task="segmentation", domain="t1")
    for target in ("Dataset001_ATLAS", "Dataset042_ATLAS_R2"):
        assert leakage_warnings(load_source("synth").card, target)
    assert overlap_warnings(["SynthStroke"], "Dataset001_ATLAS")
    assert not leakage_warnings(load_source("synth").card, "Dataset002_MSSEG")
    # without settings, as some of its repositories are
    (tmp_path / "config.json").unlink()
    assert inspect_checkpoint(path)["outputs"] == found["outputs"]


def test_a_bundle_s_metadata_are_kept(tmp_path: Path) -> None:
    found = inspect_checkpoint(written(MONAI, tmp_path))
    assert found["channel_names"] == ["T1", "FLAIR"]
    assert found["outputs"] == ["background", "label 1", "label 2"]
    assert found["trained_on"] == ["a public set"]
    assert found["citation"] == "Somebody et al., 2020"
    assert found["licence"] == "unknown"
    assert any(use.startswith("licence unknown") for use in found["uses"])


def test_names_of_channels_belong_to_their_numbers(tmp_path: Path) -> None:
    path = written(MONAI, tmp_path)
    expected = inspect_checkpoint(path)
    file = tmp_path / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    for block in metadata["network_data_format"].values():
        (channels,) = block.values()
        channels["channel_def"] = dict(reversed(channels["channel_def"].items()))
    file.write_text(json.dumps(metadata))
    assert inspect_checkpoint(path) == expected


@pytest.mark.parametrize("given", ["model.pt", "."])
def test_settings_are_found_from_inside_the_folder_of_the_weights(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(MONAI, tmp_path)
    expected = inspect_checkpoint(path)
    monkeypatch.chdir(path.parent)
    assert {**inspect_checkpoint(given), "file": ""} == {**expected, "file": ""}


@pytest.mark.parametrize("top", ["bundle/", ""])
def test_an_archive_of_a_bundle_says_what_its_folder_says(top: str, tmp_path: Path) -> None:
    folder, archive = tmp_path / "bundle", tmp_path / "bundle.zip"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")

    def packed(settings: dict[str, Any] | None = None) -> Path:
        written(MONAI, folder, settings)
        with zipfile.ZipFile(archive, "w") as z:
            for path in folder.rglob("*"):
                z.write(path, top + path.relative_to(folder).as_posix())
        return archive

    found = inspect_checkpoint(packed())
    assert {**found, "file": ""} == {**inspect_checkpoint(folder), "file": ""}
    assert (found["licence"], found["channel_names"]) == ("mit", ["T1", "FLAIR"])
    with pytest.raises(CheckpointError, match="only norm before nonlinearity"):
        inspect_checkpoint(packed({**RECORDED[MONAI]["settings"], "adn_ordering": "ADN"}))


def test_a_bundle_on_hugging_face_comes_with_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    written(MONAI, folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    with serving() as server:
        take_the_hubs_place(server, tmp_path / "hub", monkeypatch)
        for path in folder.rglob("*.*"):
            server.files[f"/lab/bundle/resolve/main/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
        found = inspect_checkpoint("hf://lab/bundle/models/model.pt")
    assert {**found, "file": ""} == {**inspect_checkpoint(folder), "file": ""}
    assert found["licence"] == "mit"


@pytest.mark.parametrize(("name", "pooling"), [("anatomix", "maximum pooling"), ("anatomix-dev", "average pooling")])
def test_anatomix_says_what_it_is(name: str, pooling: str, tmp_path: Path) -> None:
    found = inspect_checkpoint(written(name, tmp_path))
    assert (found["format"], found["network"], found["licence"]) == ("anatomix' U-Net", "AnatomixUNet", "MIT")
    assert any(pooling in note for note in found["notes"])
    assert "2411.02372" in found["citation"]
    assert "TotalSegmentator" in found["trained_on"][0]


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("SynthStroke", "_orig_mod."),
        *((name, prefix) for name in (MONAI, "anatomix") for prefix in ("model.", "module.ema_model._orig_mod.")),
        (DYNUNET, "model."),
    ],
)
def test_networks_inside_others_are_read_as_if_alone(name: str, prefix: str, tmp_path: Path) -> None:
    """Such as those of Lightning's modules, which most often are called `model`."""
    own = weights(name)
    torch.save(own, tmp_path / "alone.pth")
    torch.save({"state_dict": {prefix + key: tensor for key, tensor in own.items()}}, tmp_path / "inside.pth")
    alone, inside = (inspect_checkpoint(tmp_path / f"{file}.pth") for file in ("alone", "inside"))
    assert {**inside, "file": ""} == {**alone, "file": ""}


def test_all_tensors_of_a_monai_network_are_used(tmp_path: Path) -> None:
    own = weights(MONAI)
    torch.save(own, tmp_path / "x.pth")
    assert inspect_checkpoint(tmp_path / "x.pth")["tensors_without_use"] == 0
    other = {f"ema_model.{key}": tensor + 1 for key, tensor in own.items()}
    torch.save({**{f"model.{key}": tensor for key, tensor in own.items()}, **other}, tmp_path / "x.pth")
    found = inspect_checkpoint(tmp_path / "x.pth")
    assert found["tensors_without_use"] == len(own)
    assert any("the one under model is loaded, not ema_model" in note for note in found["notes"])


@pytest.mark.parametrize("name", [MONAI, DYNUNET, "anatomix"])
def test_what_training_adds_to_a_network_is_left_out(name: str, tmp_path: Path) -> None:
    added = {"n_averaged": torch.tensor(3), "queue": torch.zeros(2, 3), "projection.model.0.weight": torch.zeros(2, 3)}
    found = []
    for file, state in (("alone", {}), ("averaged", added)):
        torch.save({**weights(name), **state}, tmp_path / f"{file}.pth")
        found.append(inspect_checkpoint(tmp_path / f"{file}.pth") | {"file": ""})
    alone, averaged = found
    assert averaged == alone | {"tensors_without_use": alone["tensors_without_use"] + len(added)}


def test_without_settings_defaults_are_assumed_and_said(tmp_path: Path) -> None:
    for name in (MONAI, "MONAI's U-Net without residual units"):
        notes = inspect_checkpoint(written(name, tmp_path, settings={}))["notes"]
        assert any("2 is assumed" in note for note in notes)
        assert any("no settings lie beside" in note for note in notes)
        assert any("ReLU is assumed" in note for note in notes) == (name != MONAI)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adn_ordering": "AND"}, "only norm before nonlinearity"),
        ({"norm": ["group", {"num_groups": 2}]}, "its norm is group"),
        ({"up_kernel_size": 2}, "a different kernel"),
        ({"norm": ["instance", {"use_input_stats": False}]}, "its norm has the option use_input_stats"),
        ({"norm": ["instance", {"eps": "small"}]}, "its norm has eps small"),
        ({"strides": [[1, 2], [2, 2]]}, "for a network of 3 axes"),
        ({"norm": 7, "strides": "x"}, "its norm is none"),
    ],
)
def test_what_the_class_does_not_compute_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    settings = {**RECORDED[MONAI]["settings"], **change}
    path = written(MONAI, tmp_path, settings=settings)
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(path)


def test_the_stated_eps_of_the_norm_is_kept(tmp_path: Path) -> None:
    stated = {**RECORDED[MONAI]["settings"], "norm": ["instance", {"eps": 0.01, "affine": True}]}
    add_source(written(MONAI, tmp_path, settings=stated), "s", task="segmentation", domain="t1")
    assert load_source("s").card.architecture["arch_kwargs"]["norm_op_kwargs"]["eps"] == 0.01


@pytest.mark.parametrize(
    ("key", "kernel", "message"),
    [
        ("model.2.0.conv.weight", (5, 5, 5), "a different kernel from the others"),
        ("model.0.residual.weight", (1, 1, 1), "shortcuts show a stride of 1"),
    ],
)
def test_without_settings_what_tensors_show_is_not_assumed(
    key: str, kernel: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    own = weights(MONAI)
    own[key] = torch.zeros(*own[key].shape[:2], *kernel)
    torch.save(own, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (MONAI, lambda k: "model.2.0.conv" in k, "lacks its last layer"),
        (MONAI, lambda k: "model.0.conv.unit0.conv" in k, "different numbers of convolutions"),
        ("anatomix", lambda k: k.startswith("model.0."), "none of the known formats"),
        ("anatomix", lambda k: k.startswith("model.3."), "a sequence of 15 convolutions"),
    ],
)
def test_incomplete_files_are_refused(name: str, change: Any, message: str, tmp_path: Path) -> None:
    torch.save({k: t for k, t in weights(name).items() if not change(k)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=message):
        inspect_checkpoint(tmp_path / "x.pth")


def test_outputs_without_values_are_refused(tmp_path: Path) -> None:
    """The output layer that is added has as many weights as the square of their number."""
    own = weights(MONAI)
    own["model.2.0.conv.weight"] = torch.zeros(1, 60_000, 0, 1, 1)
    torch.save(own, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="has 60000 outputs; at most 4096"):
        inspect_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "key",
    ["model." + "1.submodule." * 5000 + "0.conv.unit0.conv.weight", "model.1.submodule.9.weight", "model.9999.weight"],
)
def test_forged_names_are_one_line(key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = {key: torch.zeros(2, 2, 3, 3, 3), "model.0.conv.unit0.conv.weight": torch.zeros(2, 1, 3, 3, 3)}
    torch.save(forged, tmp_path / "x.pth")
    assert main(["sources", "inspect", str(tmp_path / "x.pth")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", [MONAI, "anatomix", "anatomix-dev"])
def test_other_channels_and_2d_keep_the_response(name: str, tmp_path: Path) -> None:
    """Equal channels, and an image that is constant along the first axis, give the features of the original inside."""
    source = added(name, tmp_path)
    channels = source.card.input_channels
    deep, more, flat = built(source).eval(), built(source, 3).eval(), built(source, dimensions=2).eval()
    transfer_weights(deep, source)
    for network in (more, flat):
        assert transfer_weights(network, source).coverage["encoder"] == 1.0
    x = image((1, 1, 16, 16, 16))
    with torch.no_grad():
        before = deep.encoder(x.expand(-1, channels, -1, -1, -1))
        after = more.encoder(x.expand(-1, 3, -1, -1, -1))
        for a, b in zip(before[1:], after[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
        if name == MONAI:
            y = image((1, deep.encoder.output_channels[-1], 4, 4))
            up, flat_up = (network.decoder.transpconvs[0].up for network in (deep, flat))
            along = up(y.unsqueeze(2).expand(-1, -1, 4, -1, -1))[:, :, 2:4].mean(2)
            torch.testing.assert_close(along, flat_up(y), rtol=1e-4, atol=1e-4)
        else:
            thin = image((1, channels, 16, 16))
            y, z = (n.encoder.stages[0].units[0] for n in (deep, flat))
            inside = y(thin.unsqueeze(2).expand(-1, -1, 5, -1, -1)).select(2, 2)
            torch.testing.assert_close(inside, z(thin), rtol=1e-3, atol=1e-3)


def test_2d_s_overlapping_taps_are_inflated_evenly(tmp_path: Path) -> None:
    source = added("MONAI's U-Net without residual units", tmp_path)
    flat, deep = built(source, dimensions=2).eval(), built(source, dimensions=3).eval()
    for network in (flat, deep):
        assert transfer_weights(network, source).coverage == {"stem": 1.0, "encoder": 1.0, "decoder": 1.0}
    y = image((1, flat.encoder.output_channels[-1], 4, 4))
    with torch.no_grad():
        thick = deep.decoder.transpconvs[0].up(y.unsqueeze(2).expand(-1, -1, 4, -1, -1))
        # the last position lacks a neighbour
        for position in range(7):
            torch.testing.assert_close(thick[:, :, position], flat.decoder.transpconvs[0].up(y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [MONAI, "anatomix-dev"])
def test_widened_networks_see_the_source_s_channels_first(name: str, tmp_path: Path) -> None:
    source = added(name, tmp_path)
    architecture = json.loads(json.dumps(source.card.architecture))
    kwargs = architecture["arch_kwargs"]
    kwargs["features_per_stage"] = [2 * n for n in kwargs["features_per_stage"]]
    wide = Source(type(source.card)(**{**vars(source.card), "architecture": architecture}), source.folder)
    network = built(wide)
    report = transfer_weights(network, source, rules=AdaptationRules(widths="leading"), minimum_encoder=0.1)
    key = "encoder.stages.1.conv.unit0.conv.weight" if name == MONAI else "encoder.stages.0.units.0.conv.weight"
    own = source.tensors()[key]
    assert torch.equal(network.get_parameter(key).data[: len(own), : own.shape[1]], own)
    assert 0.1 < report.coverage["encoder"] < 1


def test_dynunet_becomes_nnunet_s_own_network(tmp_path: Path) -> None:
    found = inspect_checkpoint(written(DYNUNET, tmp_path))
    assert (found["format"], found["network"], found["stages"]) == (DYNUNET, "PlainConvUNet", 3)
    assert found["features_per_stage"] == [4, 6, 8]
    assert any("stock nnU-Net" in use for use in found["uses"])
    kwargs = added(DYNUNET, tmp_path).card.architecture["arch_kwargs"]
    assert kwargs["strides"] == [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    assert not any("kernels differ" in note for note in found["notes"])
    own = weights(DYNUNET)
    for key, message in (
        ("input_block.conv3.conv.weight", "residual blocks"),
        ("upsamples.0.odd.weight", "not part of MONAI's"),
    ):
        torch.save({**own, key: torch.zeros(1)}, tmp_path / "x.pth")
        with pytest.raises(CheckpointError, match=message):
            inspect_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("name", [MONAI, DYNUNET, "anatomix"])
def test_of_two_networks_the_teacher_is_taken(name: str, tmp_path: Path) -> None:
    own = weights(name)
    torch.save(own, tmp_path / "one.pth")
    both = {f"student.{k}": torch.zeros_like(t) for k, t in own.items()} | {f"teacher.{k}": t for k, t in own.items()}
    torch.save(both, tmp_path / "both.pth")
    for file in ("one", "both"):
        add_source(tmp_path / f"{file}.pth", file, task="segmentation", domain="t1")
    one, both_of = load_source("one").tensors(), load_source("both").tensors()
    assert one.keys() == both_of.keys()
    assert all(torch.equal(tensor, both_of[key]) for key, tensor in one.items())
    assert any("is loaded, not student" in note for note in load_source("both").card.extra["notes"])


def test_families_are_told_apart(tmp_path: Path) -> None:
    families = {name: family_of(added(name, tmp_path).tensors()) for name in SMALL}
    assert set(families.values()) == {
        *("MONAI residual U-Net encoder", "MONAI plain U-Net encoder", "anatomix encoder")
    }
    assert all(isinstance(built(added(name, tmp_path), dimensions=3), nn.Module) for name in ("anatomix", MONAI))


@pytest.mark.parametrize("name", ["anatomix", "anatomix-dev"])
def test_a_deepest_stage_of_one_voxel_along_an_axis_is_taken(name: str, tmp_path: Path) -> None:
    """Nothing lies beyond a single voxel that could be reflected."""
    network = built(added(name, tmp_path)).eval()
    steps = 2 ** (len(network.encoder.stages) - 1)
    with torch.no_grad():
        assert network(image((1, 1, steps, 2 * steps, 4 * steps))).shape[2:] == (steps, 2 * steps, 4 * steps)
