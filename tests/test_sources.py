"""The registry of sources: atomic, verified, readable without torch."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from nnunet_transfer.cli import main
from nnunet_transfer.errors import PlansError, SourceError
from nnunet_transfer.files import sha256_of
from nnunet_transfer.plans import PROFILES
from nnunet_transfer.plans.architectures import from_card, with_dimensions
from nnunet_transfer.plans.classes import wrong_class
from nnunet_transfer.sources import SourceCard, list_sources, load_source, save_source
from nnunet_transfer.sources.model_card import head_of, licence_of
from nnunet_transfer.sources.weights import write_weights

ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv2d"},
    "arch_kwargs_req_import": ["conv_op"],
}


def card(name: str = "t1_segmentation", **changes: object) -> SourceCard:
    fields = {"task": "segmentation", "domain": "t1", "architecture": ARCHITECTURE, "input_channels": 1}
    return SourceCard(name=name, **{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("nnUNet_sources", str(tmp_path / "sources"))
    return tmp_path / "sources"


def test_round_trip_keeps_card_and_values(registry: Path) -> None:
    tensors = {"encoder.a.weight": torch.randn(3, 4), "encoder.a.running_mean": torch.zeros(3)}
    saved = card(trained_on=("Dataset001_X",), licence="CC0", spacing=(1.0, 1.0), extra={"note": [1, 2]})
    folder = save_source(saved, tensors)
    source = load_source("t1_segmentation")
    assert folder == source.folder == registry / "t1_segmentation"
    assert sorted(p.name for p in folder.iterdir()) == ["source.json", "weights.safetensors"]
    assert len(source.card.sha256) == 64
    assert source.weights.stat().st_mode == (folder / "source.json").stat().st_mode
    assert {**vars(source.card), "sha256": ""} == vars(saved)
    read = source.tensors()
    assert set(read) == set(tensors)
    assert all(torch.equal(read[k], tensors[k]) for k in tensors)


def test_wrappers_and_aliases_are_stored_once(registry: Path) -> None:
    weight = torch.randn(2, 1, 3, 3)
    scale = torch.randn(2)
    tensors = {
        "module._orig_mod.encoder.stem.convs.0.conv.weight": weight,
        "module._orig_mod.encoder.stem.convs.0.all_modules.0.weight": weight,
        "module._orig_mod.encoder.stem.convs.0.all_modules.1.weight": scale,
        "module._orig_mod.decoder.encoder.stem.convs.0.conv.weight": weight,
    }
    save_source(card(), tensors)
    read = load_source("t1_segmentation").tensors()
    assert set(read) == {"encoder.stem.convs.0.conv.weight", "encoder.stem.convs.0.norm.weight"}


def test_two_names_may_share_storage(registry: Path) -> None:
    both = torch.arange(6.0)
    save_source(card(), {"a": both[:3], "b": both[3:]})
    read = load_source("t1_segmentation").tensors()
    assert read["a"].tolist() == [0, 1, 2]
    assert read["b"].tolist() == [3, 4, 5]


def test_changed_weights_are_refused(registry: Path) -> None:
    folder = save_source(card(), {"a": torch.zeros(3)})
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match="was changed"):
        load_source("t1_segmentation").tensors()
    path.unlink()
    with pytest.raises(SourceError, match=r"has no weights\.safetensors"):
        load_source("t1_segmentation").tensors()


def test_sources_of_others_that_can_t_be_read_are_named(
    registry: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On a shared registry; for an administrator there are no such files."""
    for name in ("mine", "their_folder", "their_weights"):
        save_source(card(name), {"a": torch.zeros(3)})
    closed = {str(registry / "their_folder" / "source.json"), str(registry / "their_weights" / "weights.safetensors")}

    def guarded(function: Any) -> Any:
        def checked(path: Any, *args: Any, **kwargs: Any) -> Any:
            if str(path) in closed:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return function(path, *args, **kwargs)

        return checked

    monkeypatch.setattr("os.lstat", guarded(os.lstat))
    monkeypatch.setattr("os.open", guarded(os.open))
    monkeypatch.setattr("builtins.open", guarded(open))
    assert main(["sources", "verify"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["mine", "their_folder", "their_weights"]
    assert lines[0] == "mine: unchanged"
    assert all("can't be read (Permission denied)" in line for line in lines[1:])
    assert [found.name for found in list_sources()] == ["mine", "their_weights"]
    assert "their_folder" in caplog.text


def test_headers_of_shared_sources_are_bounded(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of a published source may come from anyone, and its card states their checksum."""
    folder = save_source(card(), {name: torch.zeros(1) for name in "abcd"})
    monkeypatch.setattr("nnunet_transfer.sources.weights.MAX_TENSORS", 3)
    with pytest.raises(SourceError, match="holds 4 tensors; no network has so many"):
        load_source(folder).tensors()
    monkeypatch.setattr("nnunet_transfer.sources.weights.MAX_HEADER", 100)
    with pytest.raises(SourceError, match="has a header of"):
        load_source(folder).tensors()


def test_unknown_name_suggests_the_nearest_and_says_how_to_make_it(registry: Path) -> None:
    save_source(card(), {"a": torch.zeros(1)})
    with pytest.raises(
        SourceError, match=r"did you mean t1_segmentation\?\); make it with a pretrainer .* sources add"
    ):
        load_source("t1_segmentations")
    with pytest.raises(SourceError, match="there are: t1_segmentation"):
        load_source("zzz")


@pytest.mark.parametrize(
    ("value", "dtype"), [(float("nan"), torch.float32), (float("inf"), torch.float16), (-1e39, torch.float64)]
)
def test_weights_that_are_no_numbers_are_refused(registry: Path, value: float, dtype: torch.dtype) -> None:
    """Networks have 32 bits: a larger number would be infinite there."""
    with pytest.raises(SourceError, match=r"encoder\.a has NaN or infinite"):
        save_source(card(), {"encoder.a": torch.tensor([0.0, value], dtype=dtype)})
    assert not registry.exists() or not list(registry.iterdir())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_but_finite_weights_are_kept(registry: Path, dtype: torch.dtype) -> None:
    largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    large = torch.full((1000,), largest, dtype=dtype)
    save_source(card(), {"a": large})
    assert torch.equal(load_source("t1_segmentation").tensors()["a"], large)


def test_quantised_weights_and_empty_sources_are_refused(registry: Path) -> None:
    with pytest.raises(SourceError, match=r"torch\.int8"):
        save_source(card(), {"encoder.a": torch.zeros(2, dtype=torch.int8)})
    with pytest.raises(SourceError, match="no tensors"):
        save_source(card(), {})


def test_a_taken_name_needs_overwrite(registry: Path) -> None:
    save_source(card(), {"a": torch.zeros(1)})
    with pytest.raises(SourceError, match="already"):
        save_source(card(), {"a": torch.ones(1)})
    save_source(card(), {"a": torch.ones(1)}, overwrite=True)
    assert load_source("t1_segmentation").tensors()["a"].item() == 1
    assert [p.name for p in registry.iterdir()] == ["t1_segmentation"]


def test_nothing_half_written_when_saving_fails(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_source(card(), {"a": torch.zeros(1)})
    before = load_source("t1_segmentation").card

    def full(self: SourceCard, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SourceCard, "write", full)
    with pytest.raises(OSError, match="No space"):
        save_source(card(), {"a": torch.ones(1)}, overwrite=True)
    assert load_source("t1_segmentation").card == before
    assert [p.name for p in registry.iterdir()] == ["t1_segmentation"]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
        st.tuples(
            st.lists(st.integers(0, 3), max_size=3),
            st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64]),
        ),
        max_size=6,
    )
)
def test_the_weights_file_is_what_safetensors_reads(content: dict[str, tuple[list[int], torch.dtype]]) -> None:
    tensors = {name: torch.randn(shape).to(dtype) for name, (shape, dtype) in content.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        assert write_weights(tensors, path) == sha256_of(path)
        read = load_file(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../escape"}, "a source's name may have"),
        ({"name": ""}, "a source's name may have"),
        ({"task": "self-supervised"}, "there are: classification"),
        ({"parts": "decoder"}, "parts 'decoder'"),
        ({"domain": ""}, "domain is empty"),
        ({"domain": " "}, "domain is empty"),
        ({"input_channels": 0}, "1 or more"),
        ({"channel_names": ("a", "b")}, "2 channel names for 1 input"),
        ({"channel_names": "T1"}, "must be a list"),
        ({"architecture": {}}, "architecture needs"),
    ],
)
def test_bad_cards_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        card(**changes)


def test_damaged_cards_are_left_out_of_the_list_with_a_warning(
    registry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_source(card("good"), {"a": torch.zeros(1)})
    broken = {"no_json": "{", "no_card": "[]", "incomplete": '{"name": "incomplete"}'}
    for name, text in broken.items():
        (registry / name).mkdir()
        (registry / name / "source.json").write_text(text)
        with pytest.raises(SourceError, match=r"source\.json"):
            load_source(name)
    content = json.loads((registry / "good" / "source.json").read_text())
    (registry / "newer").mkdir()
    (registry / "newer" / "source.json").write_text(json.dumps({**content, "invented": 1}))
    assert [c.name for c in list_sources()] == ["good"]
    assert len(caplog.records) == len(broken) + 1


def test_a_source_may_be_given_by_its_folder(registry: Path, tmp_path: Path) -> None:
    folder = save_source(card(), {"a": torch.zeros(1)})
    assert load_source(folder).card.name == load_source(str(folder)).card.name == "t1_segmentation"
    with pytest.raises(SourceError, match="holds no source"):
        load_source(tmp_path / "nothing")


def test_reading_cards_imports_no_torch(registry: Path) -> None:
    save_source(card(), {"a": torch.zeros(1)})
    code = (
        "import sys; from nnunet_transfer.sources import list_sources, load_source;"
        "assert [c.name for c in list_sources()] == ['t1_segmentation'];"
        "load_source('t1_segmentation'); assert 'torch' not in sys.modules and 'safetensors' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("9" * 200_000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.just("2d"), inner, max_size=3),
    max_leaves=8,
)
MISSING = object()
FULL = PROFILES["demo"].architecture(3)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from([f.name for f in fields(SourceCard)]) | st.sampled_from(sorted(FULL["arch_kwargs"])),
    odd=ODD | st.just(MISSING),
)
@example(place="name", odd="a\nb")
@example(place="name", odd="\u2028" * 2)
@example(place="trained_on", odd="  ")
def test_a_bad_card_is_one_line_and_hides_no_other(
    place: str, odd: object, registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = {**FULL, "arch_kwargs_req_import": FULL["_kw_requires_import"]}
    for name in ("good", "strange"):
        if not (registry / name).is_dir():
            save_source(card(name, architecture=architecture), {"a": torch.zeros(1)})
    content = json.loads((registry / "good" / "source.json").read_text())
    inner = content if place in content else content["architecture"]["arch_kwargs"]
    if odd is MISSING:
        del inner[place]
    else:
        inner[place] = odd
    (registry / "strange" / "source.json").write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["sources", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] in (["good"], ["good", "strange"])
    message = ""
    try:
        shape = load_source("strange").card
        for dimensions in (2, 3):
            wrong_class(with_dimensions(from_card(shape.architecture), dimensions))
    except (SourceError, PlansError) as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert len(message) <= 2000


def test_a_network_of_thousands_of_layers_is_refused(registry: Path) -> None:
    kwargs = {**FULL["arch_kwargs"], "n_blocks_per_stage": [101] * 4}
    architecture = {**FULL, "arch_kwargs": kwargs, "arch_kwargs_req_import": FULL["_kw_requires_import"]}
    with pytest.raises(SourceError, match="n_blocks_per_stage has 404 layers; no network has so many"):
        card("deep", architecture=architecture)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 10_000, b"\xff", b'{"name": "\\ud800"}', None])
def test_files_that_are_no_cards_hide_no_other(registry: Path, content: bytes | None) -> None:
    save_source(card("good"), {"a": torch.zeros(1)})
    (registry / "bad").mkdir()
    file = registry / "bad" / "source.json"
    os.mkfifo(file) if content is None else file.write_bytes(content)
    assert [c.name for c in list_sources()] == ["good"]


def test_a_source_that_was_renamed_with_its_folder_has_the_folder_s_name(registry: Path) -> None:
    save_source(card("old"), {"a": torch.zeros(1)}).rename(registry / "new")
    assert [c.name for c in list_sources()] == ["new"]
    load_source("new").verify()
    for place in ("new", registry / "new", registry / "new" / ".." / "new"):
        assert load_source(place).card.name == "new"
    elsewhere = registry.parent / "elsewhere"
    (registry / "new").rename(elsewhere)
    assert load_source(elsewhere).card.name == "old"
    (registry / "linked").symlink_to(elsewhere)
    for place in ("linked", registry / "linked"):
        assert load_source(place).card.name == "linked"


def test_a_folder_is_a_source_without_any_registry(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_source(card("old"), {"a": torch.zeros(1)})
    for variable in ("nnUNet_sources", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)
    assert load_source(folder).card.name == "old"


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("---\r\nlicense: 'mit'\r\ntags:\r\n- license: x\r\n---\r\n".replace("\r\n", "\n"), "mit"),
        ("---\nlicense: other\nlicense_name: lab\n---\n", "lab"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense:\n- mit\n- cc0\n---\n", "mit"),
        ("---\nlicense: [mit, cc0]\n---\n", "mit"),
        ("---\nlicense: mit\n", ""),
        ("license: mit\n---\n", ""),
        ("", ""),
    ],
)
def test_the_licence_in_a_model_card_s_head(text: str, licence: str) -> None:
    assert licence_of(head_of(text)) == licence


@given(st.text(alphabet="-\n :ab'[],license"))
def test_model_cards_of_any_text_are_read(text: str) -> None:
    licence_of(head_of(text))


@pytest.mark.parametrize("filler", ["\n", " ", "---\n", "license:", 'license: "', "- ", "\t\n"])
def test_model_cards_are_read_in_linear_time(filler: str) -> None:
    """A million characters; a quadratic parser would take minutes."""
    head_of("---" + filler * (1_000_000 // len(filler)))
    head_of("---\n" + filler * (1_000_000 // len(filler)) + "\n---\n")


def test_a_long_list_in_a_model_card_is_read_in_linear_time() -> None:
    """A quadratic parser copies 600 GB."""
    start = time.process_time()
    assert head_of("---\nlicense:\n" + "- a\n" * 400_000 + "---\n") == {"license": ("a",) * 400_000}
    assert time.process_time() - start < 10


def test_names_of_outputs_are_texts_in_groups() -> None:
    assert card(extra={"outputs": [["background", "a"], [], ["b"]]}).outputs == (("background", "a"), ("b",))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_shows_how_far_weights_are_read_on_a_terminal_only(
    terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    monkeypatch.setattr("nnunet_transfer.sources.weights.BAR_AFTER", 0.0)
    monkeypatch.setattr(sys, "stderr", stream := Stream())
    write_weights({"a": torch.zeros(100)}, tmp_path / "weights.safetensors")
    assert ("/400 " in stream.getvalue()) is terminal
