"""The content of a file, folder or archive: the weights and nnU-Net's JSON files beside them."""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, TypeVar

import torch

from nnunet_transfer.checkpoints.reading import is_archive, read_weights_file
from nnunet_transfer.checkpoints.state_dicts import chosen_state_dict
from nnunet_transfer.errors import CheckpointError, DataError, renamed_in_errors
from nnunet_transfer.files import read_json
from nnunet_transfer.sources.card import CARD_FILE
from nnunet_transfer.sources.model_card import licence_of, read_head
from nnunet_transfer.sources.registry import WEIGHTS_FILE
from nnunet_transfer.unpickling.limits import MAX_KEY
from nnunet_transfer.unpickling.torch_files import DAMAGED_ARCHIVE

#: names of checkpoints of nnU-Net v2 and v1, in order of preference
CHECKPOINTS = (
    *("checkpoint_final.pth", "model_final_checkpoint.model", "checkpoint_best.pth", "model_best.model"),
    *("checkpoint_latest.pth", "model_latest.model"),
)
#: files of a MONAI bundle with its settings and metadata; its weights are in `models/`
_BUNDLE_SETTINGS = ("configs/inference.json", "configs/train.json")
_BUNDLE_METADATA = "configs/metadata.json"
BUNDLE_FILES = (*_BUNDLE_SETTINGS, _BUNDLE_METADATA)
#: what is read beside weights, in their folder or in the one above it, where nnU-Net stores the files of all folds
COMPANIONS = ("plans.json", "dataset.json", "adaptation_plan.json", "config.json", "README.md", *BUNDLE_FILES)
#: maximum sizes of a JSON file and a checkpoint in an archive, in bytes
MAX_JSON = 16 << 20
MAX_CHECKPOINT = 16 << 30
#: maximum expansion factor of an archive
MAX_SWELLING = 100
#: of a network, and characters of all their names; nnU-Net's largest have 2000, each under several names of 60 characters
MAX_TENSORS = 20_000
MAX_CHARACTERS = 2 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SUFFIXES = (".pth", ".pt", ".model", ".safetensors", ".ckpt", ".bin")
_ENDINGS = ", ".join(_SUFFIXES)

_Path = TypeVar("_Path", bound=PurePath)


@dataclass(frozen=True)
class Found:
    """A checkpoint before its format is known.

    Attributes
    ----------
    path : the weights file or its archive
    content : content of the file
    tensors : its state dict, keys as stored
    plans, dataset : nnU-Net's `plans.json` and `dataset.json` beside it, if any
    run_folder : name of the parent of the fold's folder
    licence : licence in a model card beside it
    adaptation_plan : nnssl's adaptation plan, from the file or beside it
    network : settings of the network beside it: `config.json`, or `network_def` of a MONAI bundle
    metadata : metadata of a MONAI bundle
    holder : the file's keys of the state dict, joined by dots; empty if the file is one
    chosen : which of several weights files this is, in words; empty if there was no choice
    top : what stands beside the state dict in the file, and beside each mapping around it
    """

    path: Path
    content: Any
    tensors: Mapping[str, torch.Tensor]
    plans: Mapping[str, Any] | None = None
    dataset: Mapping[str, Any] | None = None
    run_folder: str = ""
    licence: str = ""
    adaptation_plan: Mapping[str, Any] | None = None
    network: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    holder: str = ""
    chosen: str = ""
    top: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        inner = top = self.content if isinstance(self.content, Mapping) else {}
        for name in self.holder.split(".")[:-1]:
            inside = inner.get(name)
            inner = inside if isinstance(inside, Mapping) else {}
            top = {**top, **inner}
        own = top.get("nnssl_adaptation_plan")
        object.__setattr__(self, "top", top)
        if isinstance(own, Mapping):
            object.__setattr__(self, "adaptation_plan", own)


@contextmanager
def open_checkpoint(
    path: Path, *, trust: bool = False, fold: str | None = None, checkpoint: str | None = None
) -> Iterator[Found]:
    """Open a weights file, a run's folder or an exported zip; tensors are valid inside the block.

    Parameters
    ----------
    fold : `<fold>` in `fold_<fold>` of a model folder; default: `all`, otherwise the first
    checkpoint : file name in the fold's folder; default: the first of `CHECKPOINTS`

    Raises
    ------
    CheckpointError
        If there are no weights or they can't be read safely.
    """
    if path.is_dir():
        yield _found(*_in_folder(path, fold, checkpoint), trust)
    elif is_archive(path):
        with tempfile.TemporaryDirectory() as folder:
            file, inside, chosen = _unpacked(path, Path(folder), fold, checkpoint)
            places = zip(_levels(file), _levels(inside), strict=True)
            with renamed_in_errors({outer: path / inner for outer, inner in places}):
                yield _found(file, chosen, trust)
    else:
        if path.is_file() and (fold is not None or checkpoint is not None):
            raise CheckpointError(
                f"{path} is a single file; leave --fold and --checkpoint out, which choose from a folder or an archive"
            )
        yield _found(path, "", trust)


def _found(file: Path, chosen: str, trust: bool) -> Found:
    content = read_weights_file(file, trust=trust)
    holder, tensors = _state_dict(content, file)
    # a relative path doesn't name the folders above the working folder
    here = Path(os.path.abspath(file))
    return Found(
        file,
        content,
        tensors,
        _beside(here, "plans.json"),
        _beside(here, "dataset.json"),
        here.parent.parent.name,
        _licence_beside(here),
        _beside(here, "adaptation_plan.json"),
        _beside(here, "config.json") or _network_of_bundle(here),
        _beside(here, _BUNDLE_METADATA),
        holder,
        chosen,
    )


def _network_of_bundle(file: Path) -> Mapping[str, Any] | None:
    for name in _BUNDLE_SETTINGS:
        network = (_beside(file, name) or {}).get("network_def")
        if isinstance(network, Mapping):
            return network
    return None


def _state_dict(content: Any, file: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Return the file's keys of the weights, and its state dict."""
    try:
        holder, tensors = chosen_state_dict(content)
    except CheckpointError as error:
        raise CheckpointError(f"{file} {error}") from None
    lengths = [len(name) for name in tensors]
    if len(tensors) > MAX_TENSORS or max(lengths) > MAX_KEY or sum(lengths) > MAX_CHARACTERS:
        raise CheckpointError(f"{file} holds more tensors, or longer names, than any network has")
    return holder, tensors


def _licence_beside(file: Path) -> str:
    return next(filter(None, (licence_of(read_head(folder / "README.md")) for folder in _folders(file))), "")


def _folders(file: Path) -> tuple[Path, ...]:
    """Return the folders to look in for what belongs to weights: their own, the one above, and the top of a repository."""
    # Hugging Face's cache: snapshots/<commit>/<path in the repository>
    tops = [folder for folder in file.parents if folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)]
    return (*_levels(file), *tops[:1])


def _levels(file: _Path) -> tuple[_Path, _Path]:
    """Return the folders with files that belong to weights: their own and the one above it."""
    return file.parent, file.parent.parent


def _beside(file: Path, name: str) -> Mapping[str, Any] | None:
    for folder in _folders(file):
        if os.path.lexists(folder / name):
            try:
                content = read_json(folder / name, limit=MAX_JSON)
            except DataError as error:
                raise CheckpointError(str(error)) from None
            return content if isinstance(content, Mapping) else None
    return None


def _in_folder(folder: Path, fold: str | None, checkpoint: str | None) -> tuple[Path, str]:
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix in _SUFFIXES]
    name, chosen = _choose(names, folder, fold, checkpoint)
    _refuse_published(f"{folder}: {name}", name, (folder / name).with_name(CARD_FILE).is_file(), "give its folder")
    return folder / name, chosen


def _refuse_published(what: str, name: str, has_card: bool, advice: str) -> None:
    """Refuse the weights of a published source, whose card says what they were trained on and is read from its folder."""
    if has_card and PurePosixPath(name).name == WEIGHTS_FILE:
        raise CheckpointError(f"{what} belongs to a published source, whose card would be left out; {advice}")


def _choose(names: list[str], where: Path, fold: str | None, checkpoint: str | None) -> tuple[str, str]:
    """Return the name of the weights file to read, and which of several it is, in words."""
    names = [n for n in names if not checkpoint or PurePosixPath(n).name == checkpoint]
    names = [n for n in names if fold is None or f"fold_{fold}" in PurePosixPath(n).parts]

    def preference(name: str) -> tuple[bool, int, str]:
        path = PurePosixPath(name)
        rank = CHECKPOINTS.index(path.name) if path.name in CHECKPOINTS else len(CHECKPOINTS)
        return "fold_all" not in path.parts, rank, name

    if not names:
        raise CheckpointError(
            f"{where} has no weights file {checkpoint or f'({_ENDINGS})'}"
            f"{f' in fold_{fold}' if fold is not None else ''}"
        )
    models = {str(PurePosixPath(n).parent.parent) for n in names if re.search(r"(^|/)fold_[^/]+/[^/]+$", n)}
    if len(models) > 1:
        raise CheckpointError(
            f"{where} holds {len(models)} models; give the folder of one: {', '.join(sorted(models))}"
        )
    name = min(names, key=preference)
    return name, f"of {len(names)} weights files, {name} is read" if len(names) > 1 else ""


def _unpacked(
    archive_path: Path, folder: Path, fold: str | None, checkpoint: str | None
) -> tuple[Path, PurePosixPath, str]:
    """Unpack one checkpoint, and the files beside it that are read, into folders like those of the archive.

    Returns
    -------
    tuple
        The unpacked weights, their path in the archive, and which of several they are, in words.
    """
    try:
        with zipfile.ZipFile(archive_path) as archive:
            members = members_of(archive)
            name, chosen = _choose([n for n in members if n.endswith(_SUFFIXES)], archive_path, fold, checkpoint)
            weights = PurePosixPath(name)
            has_card = (weights.parent / CARD_FILE).as_posix() in members
            _refuse_published(f"{archive_path}: {name}", name, has_card, "unpack it and give its folder")
            # the name of the folder above tells the configuration; the name of the fold's folder could be a file's, too
            target = folder / (weights.parent.parent.name or "model") / "weights" / weights.name
            extract(archive, members[name], target, MAX_CHECKPOINT)
            for inside, outside in zip(_levels(weights), _levels(target), strict=True):
                for companion in COMPANIONS:
                    member = members.get((inside / companion).as_posix())
                    if member is not None:
                        extract(archive, member, outside / companion, MAX_JSON)
            return target, weights, chosen
    except DAMAGED_ARCHIVE as error:
        raise CheckpointError(f"{archive_path} is damaged ({error}); copy or download it again") from None


def members_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files in an archive by their names.

    Raises
    ------
    CheckpointError
        If a name is a path outside the archive.
    """
    members = {m.filename: m for m in archive.infolist() if not m.is_dir()}
    for name in members:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if ".." in parts or name.startswith(("/", "\\")) or ":" in name:
            raise CheckpointError(f"{archive.filename} holds {name}, a path outside the archive; it was not read")
    return members


def extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, limit: int) -> None:
    """Unpack one member of an archive to `target`, with a size limit.

    Raises
    ------
    CheckpointError
        If the member is too large.
    """
    # weights compress by a few per cent: a member that expands a hundredfold is a bomb. The stated packed size may be
    # wrong
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CheckpointError(f"{archive.filename}: {member.filename} is packed in a way that models aren't; refused")
    packed = min(member.compress_size, os.path.getsize(str(archive.filename)))
    if member.file_size > limit or member.file_size > MAX_SWELLING * max(packed, 1 << 16):
        raise CheckpointError(
            f"{archive.filename}: {member.filename} would unpack to {member.file_size} bytes; refused"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, open(target, "wb") as sink:
        left = member.file_size
        while left > 0 and (block := source.read(min(left, 1 << 20))):
            sink.write(block)
            left -= len(block)


def json_of(value: Any) -> Any:
    """Return `value` as plain JSON types; other types become text."""
    return json.loads(json.dumps(value, default=str))
