"""Files of any content end in a result or in one line: no traceback, no signal, no gigabytes, no minutes.

Pickles are interpreted by Python code that is bounded by itself, so these tests run it in their own process; the last ones
use the process with limits that users get.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnunet_transfer.checkpoints import inspect_checkpoint, reading
from nnunet_transfer.errors import CheckpointError
from nnunet_transfer.unpickling import instructions, process
from nnunet_transfer.unpickling.process import answer_of
from tests.checkpoint_files import build, nnunet_run, plans_architecture

FOLDER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
#: what a file may make this machine do
SECONDS, BYTES = 30, 2 << 30


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "answer_of", lambda task, **_: process.answer(task))


def _memory(field: str) -> int:
    """Return a figure of this process's memory in bytes: `VmRSS` now, `VmHWM` its peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


def _forget_peak() -> int:
    """Start the peak again, so that what other tests took in this process doesn't count; return the memory now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """A small checkpoint of nnU-Net's."""
    architecture = plans_architecture()
    return nnunet_run(build(architecture), architecture)


def one_result(path: Path) -> CheckpointError | None:
    """Inspect a file: a result or one line, in bounded time and memory; return the refusal."""
    start, before = time.process_time(), _forget_peak()
    refusal = None
    try:
        inspect_checkpoint(path)
    except CheckpointError as error:
        refusal = error
    assert time.process_time() - start < SECONDS
    assert _memory("VmHWM") - before < BYTES
    return refusal


def zipped(program: bytes, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", program)
        for name, content in members.items():
            archive.writestr(f"x/data/{name.removeprefix('s')}", content)
    return buffer.getvalue()


def legacy(program: bytes) -> bytes:
    return b"".join(pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {})) + program


def text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


NAMES = [
    *(
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_tensor_v3",
        "torch FloatStorage",
    ),
    *("torch._utils _rebuild_parameter", "torch._tensor _rebuild_from_type_v2", "numpy dtype", "numpy ndarray"),
    *(
        "numpy.core.multiarray _reconstruct",
        "numpy.core.multiarray scalar",
        "_codecs encode",
        "torch Size",
        "torch device",
    ),
    *("os system", "builtins getattr", "builtins bytearray", "builtins set", "torch storage", "torch.nn Linear"),
]
PUSH = st.one_of(
    st.sampled_from(NAMES).map(lambda name: b"c" + name.replace(" ", "\n").encode() + b"\n"),
    st.text(max_size=5).map(text),
    st.sampled_from(["storage", "0", "cpu", "f8", "O", "<", "latin1", "encoder.stem.convs.0.conv.weight"]).map(text),
    st.integers(-(2**31), 2**31 - 1).map(lambda n: b"J" + struct.pack("<i", n)),
    st.integers(0, 3).map(lambda n: bytes([0x4B, n])),
    st.binary(max_size=9).map(lambda b: b"C" + bytes([len(b)]) + b),
    st.sampled_from([b"N", b"\x88", b")", b"]", b"}", b"G" + b"\0" * 8]),
)
ACT = st.sampled_from(
    [
        *(bytes([c]) for c in b"(0123tlaesudbR\x81\x85\x86\x87Q"),
        b"q\x00",
        b"q\x01",
        b"h\x00",
        b"h\x01",
        b"\x8f\x90",
        b"\x94",
    ]
)
BROKEN = st.binary(min_size=1, max_size=9) | st.sampled_from(
    [b"r\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x96" + b"\x7f" * 8]
)
PROGRAM = st.lists(PUSH | PUSH | ACT | ACT | BROKEN, max_size=25).map(
    lambda parts: b"\x80\x02" + b"".join(parts) + b"."
)


@settings(max_examples=600, suppress_health_check=FOLDER)
@given(program=PROGRAM, layout=st.sampled_from([zipped, legacy, bytes]))
def test_programs_of_any_instructions(tmp_path: Path, program: bytes, layout: Any) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(layout(program))
    answer = process.answer({"read": str(path)})
    assert len({"content", "asks_for", "refused", "damaged"} & answer.keys()) == 1
    json.dumps(answer).encode()


PARTS = st.sampled_from(
    [
        *(
            "module.",
            "encoder.",
            "decoder.",
            "stages.",
            "stem.",
            "convs.",
            "blocks.",
            "ops.",
            "all_modules.",
            "transpconvs.",
        ),
        *(
            "conv_blocks_context.",
            "conv_blocks_localization.",
            "tu.",
            "seg_outputs.",
            "seg_layers.",
            "down_tr64.",
            "up_tr256.",
        ),
        *(
            "layer1.",
            "layer4.",
            "downsample.",
            "conv1.",
            "conv2.",
            "conv3.",
            "bn1.",
            "conv.",
            "norm.",
            "instnorm.",
            "skip.",
        ),
        *(
            "0.",
            "1.",
            "2.",
            "7.",
            "99999999999999999999.",
            "weight",
            "bias",
            "running_mean",
            "num_batches_tracked",
            "\n",
            "é.",
        ),
    ]
)
#: where each format starts, so that its reader is reached
STARTS = st.sampled_from(
    [
        *("", "encoder.stages.0.blocks.0.conv1.conv.weight", "encoder.stages.0.0.convs.0.conv.weight"),
        *("conv_blocks_context.0.blocks.0.conv.weight", "conv_blocks_context.0.0.conv3.weight"),
        *(
            "down_tr64.ops.0.conv1.weight",
            "layer1.0.conv1.weight",
            "layer1.0.conv2.weight",
            "encoder.stages.0.0.conv1.weight",
        ),
    ]
)
KEYS = st.lists(PARTS, min_size=1, max_size=6).map("".join) | STARTS
SHAPES = st.lists(st.integers(0, 4), max_size=6)


@settings(max_examples=400, suppress_health_check=FOLDER)
@given(shapes=st.dictionaries(KEYS, SHAPES, min_size=1, max_size=8))
def test_networks_of_any_names_and_shapes(tmp_path: Path, shapes: dict[str, list[int]]) -> None:
    torch.save({key: torch.zeros(shape) for key, shape in shapes.items()}, tmp_path / "x.pth")
    one_result(tmp_path / "x.pth")


SMALL = st.none() | st.booleans() | st.integers(-3, 40) | st.just(1 << 70) | st.floats() | st.text(max_size=3)
ANY = st.recursive(
    SMALL, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
#: of nnU-Net's plans, old and new, and of dataset.json
SETTINGS = (
    *("architecture", "patch_size", "spacing", "normalization_schemes", "previous_stage", "inherits_from"),
    *("preprocessor_name", "resampling_fn_data", "UNet_class_name", "UNet_base_num_features", "unet_max_num_features"),
    *("n_conv_per_stage_encoder", "n_conv_per_stage_decoder", "pool_op_kernel_sizes", "conv_kernel_sizes"),
)
KWARGS = (
    "n_stages",
    "features_per_stage",
    "conv_op",
    "kernel_sizes",
    "strides",
    "n_blocks_per_stage",
    "norm_op",
    "nonlin",
)


def some_of(names: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), values, max_size=6)


def changed(old: Any, changes: Any) -> Any:
    """Return a mapping with another's entries put in, at any depth."""
    if not isinstance(old, dict) or not isinstance(changes, dict):
        return changes
    return {**old, **{key: changed(old.get(key), value) for key, value in changes.items()}}


@settings(max_examples=100, suppress_health_check=FOLDER)
@given(
    settings=some_of(SETTINGS, ANY),
    architecture=some_of(("network_class_name", "arch_kwargs", "_kw_requires_import"), ANY),
    kwargs=some_of(KWARGS, ANY),
    plans=some_of(("dataset_name", "image_reader_writer", "label_manager", "configurations"), ANY),
    dataset=some_of(("channel_names", "modality", "labels", "licence", "label_sets"), ANY),
    arguments=some_of(("plans", "configuration", "dataset_json"), ANY),
)
def test_plans_of_any_content(
    tmp_path: Path, run: dict[str, Any], settings: Any, architecture: Any, kwargs: Any, **top: Any
) -> None:
    """Nearly right plans, so that every reader of them is reached."""
    own = {**settings, **({"architecture": {**architecture, "arch_kwargs": kwargs}} if kwargs else {})}
    for changes in (
        {"plans": {"configurations": {"3d_fullres": own}}, "dataset_json": top["dataset"]},
        {"plans": top["plans"]},
        top["arguments"],
    ):
        torch.save({**run, "init_args": changed(run["init_args"], changes)}, tmp_path / "x.pth")
        one_result(tmp_path / "x.pth")


HEADER = st.dictionaries(
    KEYS | st.just("__metadata__"),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "I64", "F8_E4M3", "X", 3]),
            "shape": st.lists(st.integers(-1, 4) | st.just(1 << 62), max_size=5),
            "data_offsets": st.lists(st.integers(-1, 70) | st.just(1 << 63), max_size=3),
        }
    )
    | st.text(max_size=3),
    max_size=4,
)


@settings(max_examples=300, suppress_health_check=FOLDER)
@given(header=HEADER, wrong=st.integers(-3, 3), values=st.binary(max_size=64))
def test_safetensors_of_any_header(tmp_path: Path, header: dict[str, Any], wrong: int, values: bytes) -> None:
    encoded = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(max(0, len(encoded) + wrong * (wrong % 2)).to_bytes(8, "little") + encoded + values)
    one_result(path)


def nested(count: int, opening: bytes, closing: bytes) -> bytes:
    return b"\x80\x02" + opening * count + b"N" + closing * count + b"."


def doubled(times: int) -> bytes:
    """Return a program for a list of two references to a list of two references and so on."""
    return b"\x80\x02]" + b"".join(b"q\x00](h\x00h\x00e" for _ in range(times)) + b"."


def array(shape: bytes, dtype: str, state: bytes = b"") -> bytes:
    """Return a program for a numpy array of this shape and type."""
    kind = b"cnumpy\ndtype\n" + text(dtype) + b"\x85R" + state
    return b"\x80\x02cnumpy\nndarray\n" + shape + kind + b"C\x08" + b"A" * 8 + b"\x87R."


BOMBS = {
    "an object at an address of the file's choice": array(b"K\x01\x85", "O"),
    "two billion objects": array(b"J" + struct.pack("<i", 2**31 - 1) + b"\x85", "O"),
    "a type of negative size": array(b"K\x01\x85", "V8", b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"),
    "a bytearray of 16 GiB": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05" + (1 << 34).to_bytes(5, "little") + b"\x85R.",
    "bytes of 16 GiB": b"\x80\x05\x8e" + (1 << 34).to_bytes(8, "little") + b".",
    "a million lists in lists": nested(1_000_000, b"]", b"a"),
    "a million tuples in tuples as a key": b"\x80\x02}N" + b"\x85" * 1_000_000 + b"Ns.",
    "two to the power of fifty": doubled(50),
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a million keys": b"\x80\x02}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(1_000_000)) + b"u.",
    "a number of a million digits": b"\x80\x02\x8b" + struct.pack("<i", 500_000) + b"\xff" * 500_000 + b".",
    "half a character": b"\x80\x02" + text("\ud800") + b".",
    "half a character in the old way": b"V\\ud800\n.",
    "no end": b"\x80\x02" + b"N" * 6_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("layout", [zipped, legacy])
def test_bombs_are_one_line(bomb: str, layout: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(layout(BOMBS[bomb]))
    refusal = one_result(path)
    assert refusal is not None
    assert "\n" not in str(refusal)


def test_programs_of_too_many_steps_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "MAX_OPERATIONS", 1000)
    (tmp_path / "x.pth").write_bytes(zipped(b"\x80\x02" + b"N0" * 500 + b"N."))
    with pytest.raises(CheckpointError, match="more than 1000 steps"):
        reading.read_weights_file(tmp_path / "x.pth")


def views(tensors: dict[str, tuple[int, int]], dtype: str) -> bytes:
    """Return a program for views of data/0: key -> number of bytes that the file states, and number of values."""

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    entries = b""
    kind = b"\x89Nctorch\n" + dtype.encode() + b"\n"
    for key, (stored, own) in tensors.items():
        storage = b"(" + text("storage") + b"ctorch\nByteStorage\n" + text("0") + text("cpu") + number(stored) + b"tQ"
        shape = number(0) + number(own) + b"\x85" + number(1) + b"\x85"
        entries += text(key) + b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage + shape + kind + b"tR"
    return b"\x80\x02}(" + entries + b"u."


def test_values_that_overlap_are_not_copied_again_and_again(tmp_path: Path) -> None:
    """Values at an odd place are copied to align them; here 300 that start there."""
    values = bytes(8 << 20)
    program = views({f"a.{i}": (len(values) - i, 1) for i in range(300)}, "float32")
    path = tmp_path / "x.pth"
    for padding in range(2):
        path.write_bytes(zipped(program + bytes(padding), s0=values))
        assert "values that overlap" in str(one_result(path))


@pytest.mark.parametrize(("names", "refused"), [(12, False), (40, True)])
def test_many_names_of_a_large_tensor(names: int, refused: bool, tmp_path: Path) -> None:
    """Whoever saves them copies each; nnU-Net has four names for one tensor."""
    size = 4 << 20
    program = views({f"a.{i}": (size, size) for i in range(names)}, "uint8")
    path = tmp_path / "x.pth"
    path.write_bytes(zipped(program, s0=bytes(size)))
    assert ("no network has so many names" in str(one_result(path))) is refused


@pytest.mark.parametrize(("size", "stride", "offset"), [((0, 1 << 100), (1, 1), 0), ((0,), (1 << 100,), 0)])
def test_sizes_that_no_machine_counts(tmp_path: Path, size: Any, stride: Any, offset: int) -> None:
    def numbers(values: Any) -> bytes:
        return b"(" + b"".join(b"\x8a\x10" + value.to_bytes(16, "little") for value in values) + b"t"

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x00tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers([offset])[1:-1] + numbers(size)
    program = b"\x80\x02}" + text("a") + tensor + numbers(stride) + b"\x89}tRs."
    (tmp_path / "x.pth").write_bytes(zipped(program, s0=b""))
    with pytest.raises(CheckpointError, match="a tensor has no shape"):
        reading.read_weights_file(tmp_path / "x.pth")


def test_zip_files_that_list_too_many_members(tmp_path: Path) -> None:
    """The size of the list is a number in the file's last bytes, whatever follows from it."""
    content = bytearray(zipped(b"\x80\x02}."))
    end = content.rfind(b"PK\5\6")
    content[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError):
        reading.read_weights_file(tmp_path / "x.pth")


def test_a_reader_that_takes_too_much_is_ended(tmp_path: Path) -> None:
    """The limits of the process hold where those of the interpreter would not."""
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    assert answer_of({"read": str(tmp_path / "x.pth")})["storages"] != []
    endless = {"rename": ["a" * 100 + "b"], "rules": [(1, "(a+)+$", "")]}
    assert "ended with status" in answer_of(endless, seconds=1)["damaged"]
    assert "damaged" in answer_of({"rename": ["a" * 900] * 20_000, "rules": [(1, "x", "y")]}, memory=20 << 20)
