"""Export trained models for use with stock nnU-Net.

If the network is one of nnU-Net's, a model of this package only differs from nnU-Net's in the name of the trainer, which
nnU-Net looks up for prediction. The exported model names `nnUNetTrainer`, which builds the same network.
"""

from __future__ import annotations

import logging
import pickletools
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from nnunet_transfer.configurations import with_inherited
from nnunet_transfer.errors import CheckpointError, DataError, PlansError, SettingsError, one_line, renamed_in_errors
from nnunet_transfer.files import atomic_folder, atomic_path, read_json, write_json
from nnunet_transfer.naming import PRETRAINERS, follows_grammar
from nnunet_transfer.plans.classes import STOCK_NETWORKS, foreign_names, wrong_class
from nnunet_transfer.sources.schema import architecture_problems
from nnunet_transfer.subjects import DONORS, without_donor_names
from nnunet_transfer.words import counted

log = logging.getLogger(__name__)

STOCK_TRAINER = "nnUNetTrainer"
#: key of plans from pre-training on a pooled data set, whose outputs nnU-Net can't interpret as a segmentation
_LABEL_SETS = "label_sets"
_SEGMENTING = "nnUNetPretrainerSegmentation"
_FILES = _PLANS, _DATASET = ("plans.json", "dataset.json")
#: file beside a fold's checkpoint with the origin and licence of the initial weights
_REPORT = "transfer_report.json"
#: exported if it exists, as in nnU-Net's export
_FINGERPRINT = "dataset_fingerprint.json"
#: files that `nnUNetv2_find_best_configuration` writes to `crossval_results_folds_0_1`
_POSTPROCESSING, _POSTPROCESSING_TEXT = "postprocessing.pkl", "postprocessing.json"
_CROSSVAL = re.compile(r"crossval_results_folds_((?:all|[0-9]+)(?:_(?:all|[0-9]+))*)")
_MAX_POSTPROCESSING = 1 << 16
#: all texts in such a pickle: a function of nnU-Net and its keyword, once per label that benefits from it ...
_POSTPROCESSING_NAMES = (
    "nnunetv2.postprocessing.remove_connected_components",
    "remove_all_but_largest_component_from_segmentation",
)
_POSTPROCESSING_WORDS = {*_POSTPROCESSING_NAMES, " ".join(_POSTPROCESSING_NAMES), "labels_or_regions"}
#: ... and its instructions, none of which makes a call
_PLAIN_INSTRUCTIONS = {
    *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("GLOBAL", "STACK_GLOBAL", "SHORT_BINUNICODE", "BINUNICODE", "BININT", "BININT1", "BININT2"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
}
#: of an architecture
_NEEDED = ("network_class_name", "arch_kwargs", "_kw_requires_import")
_FOLD = re.compile(r"fold_(all|[0-9]+)")
#: a name from the model that becomes part of a path; without a leading dot, so that it is neither hidden nor `..`
_FOLDER_NAME = re.compile(r"(?!\.)[\w.-]+")


@dataclass(frozen=True)
class StockModel:
    """An exported model.

    Attributes
    ----------
    path
        The folder or archive.
    folds
        The exported folds.
    sources
        Name and licence of each source that the model was fine-tuned from, from its transfer reports.
    postprocessing
        Files for `nnUNetv2_apply_postprocessing -pp_pkl_file`, as paths relative to the model's folder.
    """

    path: Path
    folds: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    postprocessing: tuple[str, ...] = ()


def export_stock(
    model: Path,
    output: Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    overwrite: bool = False,
) -> StockModel:
    """Export a trained model so that stock nnU-Net predicts with it.

    As in nnU-Net's export, the postprocessing chosen by cross-validation of these folds and the data set's fingerprint are
    included. Files that name cases or folders of this machine (predictions and scores of the validation, logs,
    `inference_information.json`) or belong to several models (ensembles) are not, nor are the donors of pasted lesions, whom
    `dataset.json` names by case and transfer reports in a warning.

    Parameters
    ----------
    model : folder `<trainer>__<plans>__<configuration>`, or a zip of it from `nnUNetv2_export_model_to_zip`
    output : an archive for `nnUNetv2_install_pretrained_model_from_zip` if the name ends in `.zip`, otherwise a folder for
        `<data set>/nnUNetTrainer__<plans>__<configuration>`
    folds : folds to export; default: all that have the checkpoint
    checkpoint : file name of the checkpoint in each fold's folder
    overwrite : replace an existing model

    Raises
    ------
    TransferError
        If the model can't be read, was trained by another package's trainer, or has a network or plans that nnU-Net doesn't
        support.
    """
    if checkpoint in ("", "..") or PurePath(checkpoint).name != checkpoint:
        # a path would be written to as well
        raise SettingsError(f"{checkpoint or 'an empty text'} is not the name of a file in a fold's folder")
    with _opened(model) as folder:
        plans, dataset_json = (_json(folder / name) for name in _FILES)
        chosen = _folds(folder, folds, checkpoint)
        contents = {fold: _stripped(folder / fold / checkpoint) for fold in chosen}
        configuration = str(next(iter(contents.values()))["init_args"].get("configuration"))
        _check(plans, dataset_json, configuration, contents)
        name = f"{STOCK_TRAINER}__{plans['plans_name']}__{configuration}"
        reports = {fold: _json(folder / fold / _REPORT) for fold in chosen if (folder / fold / _REPORT).is_file()}
        extras = [*_postprocessing(folder, chosen)]
        zipped = output.name.lower().endswith(".zip")
        place = output if zipped else output / plans["dataset_name"] / name
        _check_replaceable(place, zipped, overwrite)
        if zipped:
            output.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=output.parent) as temporary:
                own = Path(temporary) / plans["dataset_name"] / name
                _write(folder, own, contents, checkpoint, extras, _without_donors(dataset_json), reports)
                _archive(Path(temporary), output)
        else:
            with atomic_folder(place, overwrite=overwrite) as written:
                _write(folder, written, contents, checkpoint, extras, _without_donors(dataset_json), reports)
    sources = dict.fromkeys((str(r.get("source")), str(r.get("licence") or "unknown")) for r in reports.values())
    names = tuple(fold.removeprefix("fold_") for fold in chosen)
    return StockModel(place, names, tuple(sources), tuple(extra for extra in extras if extra.endswith(".pkl")))


def _check_replaceable(place: Path, zipped: bool, overwrite: bool) -> None:
    """Refuse to replace anything but an earlier export: nnU-Net's own trainings have the same folder names."""
    if place.exists() and place.is_dir() == zipped:
        raise DataError(f"{place} is a {'folder' if zipped else 'file'}; choose another place")
    if place.exists() and not overwrite:
        raise DataError(f"{place} exists; choose another place, or replace it with --overwrite")
    files = (path.relative_to(place) for path in place.rglob("*") if not path.is_dir()) if place.is_dir() else ()
    if other := next((path for path in sorted(files) if not _is_of_a_model(path.parts)), None):
        raise DataError(
            f"{place} also holds {other}, which an export doesn't and which would be lost; choose another place"
        )


@contextmanager
def _opened(model: Path) -> Iterator[Path]:
    """Yield the model's folder, unpacked from an archive with safe names if necessary."""
    if model.is_dir():
        yield model
        return
    from nnunet_transfer.checkpoints.found import MAX_CHECKPOINT, MAX_JSON, MAX_SWELLING, extract, members_of
    from nnunet_transfer.checkpoints.reading import DAMAGED_ARCHIVE, is_archive

    if not is_archive(model):
        raise CheckpointError(f"{model} is neither a model's folder nor a zip archive of one")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(model) as archive:
                members = {PurePosixPath(name): member for name, member in members_of(archive).items()}
                models = {path.parent for path in members if path.name == "plans.json" and len(path.parts) <= 3}
                if len(models) != 1:
                    raise CheckpointError(f"{model} holds {len(models)} models; give an archive or the folder of one")
                (top,) = models
                inner = {path.relative_to(top).parts: m for path, m in members.items() if path.is_relative_to(top)}
                wanted = {parts: m for parts, m in inner.items() if _is_of_a_model(parts)}
                if sum(m.file_size for m in wanted.values()) > MAX_SWELLING * max(model.stat().st_size, 1 << 16):
                    raise CheckpointError(f"{model} would unpack to more than {MAX_SWELLING} times its size; refused")
                for parts, member in wanted.items():
                    limit = MAX_CHECKPOINT if parts[-1].endswith(".pth") else MAX_JSON
                    extract(archive, member, Path(folder, *parts), limit)
        except DAMAGED_ARCHIVE as error:
            raise CheckpointError(f"{model} is damaged ({error}); copy or download it again") from None
        with renamed_in_errors({Path(folder): model}):
            yield Path(folder)


def _is_of_a_model(inside: tuple[str, ...]) -> bool:
    """Whether a file in a model's folder may be exported."""
    if len(inside) == 2:
        of_fold = _FOLD.fullmatch(inside[0]) and inside[1].endswith((".pth", _REPORT))
        of_all = _CROSSVAL.fullmatch(inside[0]) and inside[1] in (_POSTPROCESSING, _POSTPROCESSING_TEXT)
        return bool(of_fold or of_all)
    return inside in {(name,) for name in (*_FILES, _FINGERPRINT)}


def _postprocessing(folder: Path, chosen: Sequence[str]) -> Iterator[str]:
    """Yield the paths of further files to export; warn about those that can't be exported."""
    for path in sorted(folder.glob(f"crossval_results_folds_*/{_POSTPROCESSING}")):
        match = _CROSSVAL.fullmatch(path.parent.name)
        if not match or not path.is_file():
            continue
        name = f"{path.parent.name}/{path.name}"
        if not {f"fold_{fold}" for fold in match[1].split("_")} <= set(chosen):
            log.warning("%s was chosen on folds that aren't all exported, so it isn't exported, either", name)
        elif path.stat().st_size > _MAX_POSTPROCESSING or not _is_of_nnunet(path.read_bytes()):
            log.warning("%s asks for more than nnU-Net's postprocessing: it isn't exported", name)
        else:
            yield name
            if path.with_name(_POSTPROCESSING_TEXT).is_file():
                _json(path.with_name(_POSTPROCESSING_TEXT))
                yield f"{path.parent.name}/{_POSTPROCESSING_TEXT}"
    if (folder / _FINGERPRINT).is_file():
        _json(folder / _FINGERPRINT)
        yield _FINGERPRINT


def _is_of_nnunet(program: bytes) -> bool:
    """Whether a pickle, which is not loaded, only names nnU-Net's function and makes no calls."""
    try:
        return all(
            instruction.name in _PLAIN_INSTRUCTIONS and (not isinstance(value, str) or value in _POSTPROCESSING_WORDS)
            for instruction, value, _ in pickletools.genops(program)
        )
    except (ValueError, OverflowError):
        return False


def _json(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object; restore it")
    return content


def _folds(folder: Path, wanted: Sequence[str] | None, checkpoint: str) -> list[str]:
    there = sorted(p.name for p in folder.iterdir() if _FOLD.fullmatch(p.name) and (p / checkpoint).is_file())
    chosen = there if wanted is None else [f"fold_{fold}" for fold in dict.fromkeys(wanted)]
    if missing := [fold for fold in chosen if fold not in there]:
        raise CheckpointError(
            f"{folder} has no {checkpoint} in {', '.join(missing)}; there are: {', '.join(there) or 'none'}"
        )
    if not chosen:
        raise CheckpointError(f"{folder} has no fold with {checkpoint}; give a model's folder, with fold_0 and so on")
    return chosen


def _stripped(file: Path) -> dict[str, Any]:
    """Return the parts of a checkpoint that nnU-Net needs for prediction, with the name of its own trainer."""
    from nnunet_transfer.checkpoints.reading import read_weights_file

    content = read_weights_file(file)
    arguments = content.get("init_args") if isinstance(content, Mapping) else None
    if not isinstance(arguments, Mapping) or not isinstance(content.get("network_weights"), Mapping):
        raise CheckpointError(f"{file} is not a checkpoint of nnU-Net v2")
    trainer = str(content.get("trainer_name"))
    # a class of the user's own may build another network with tensors of the same shapes
    if trainer != STOCK_TRAINER and not follows_grammar(trainer):
        raise SettingsError(
            f"{file} was trained by {trainer}, which isn't a trainer of this package; it wasn't exported"
        )
    base = trainer.split("_")[0]
    if base in PRETRAINERS and base != _SEGMENTING:
        raise SettingsError(
            f"{file} was trained by {trainer}, whose network predicts no masks; share its source instead"
        )
    axes = content.get("inference_allowed_mirroring_axes")
    known = isinstance(axes, list | tuple) and all(isinstance(axis, int) and 0 <= axis < 3 for axis in axes)
    if axes is not None and not known:
        raise CheckpointError(f"{file} names axes {one_line(axes, 40)} to mirror images along; there are 0, 1 and 2")
    return {
        "network_weights": dict(content["network_weights"]),
        "trainer_name": STOCK_TRAINER,
        "init_args": {
            key: _without_donors(arguments[key]) if key == "dataset_json" else arguments[key]
            for key in ("plans", "configuration", "fold", "dataset_json")
            if key in arguments
        },
        "inference_allowed_mirroring_axes": None if axes is None else tuple(int(axis) for axis in axes),
    }


def _check(
    plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str, contents: Mapping[str, Any]
) -> None:
    """Check that stock nnU-Net builds the network of these plans, and that the weights fit it."""
    if missing := [k for k in ("plans_name", "dataset_name", "configurations") if k not in plans]:
        raise PlansError(f"plans.json lacks {', '.join(missing)}; restore it")
    names = plans["plans_name"], plans["dataset_name"], configuration
    if odd := [name for name in names if not isinstance(name, str) or not _FOLDER_NAME.fullmatch(name)]:
        raise PlansError(f"plans.json has names that can't be folder names: {one_line(', '.join(map(str, odd)), 200)}")
    if _LABEL_SETS in plans:
        raise SettingsError(
            "this network has an output for each of several label sets, which nnU-Net doesn't; not exported"
        )
    if not isinstance(plans["configurations"], Mapping) or configuration not in plans["configurations"]:
        raise PlansError(f"plans.json has no configuration {configuration}, which the checkpoint was trained with")
    own = with_inherited(plans["configurations"], configuration)
    for setting, name in foreign_names({**plans, "configurations": {configuration: own}}):
        raise SettingsError(f"the plans name {name} as {setting}, which stock nnU-Net doesn't have: not exported")
    architecture = own.get("architecture")
    if not isinstance(architecture, Mapping) or not all(key in architecture for key in _NEEDED):
        raise PlansError(
            f"{configuration} in plans.json has no architecture; plan and train again with nnU-Net 2.4 or later"
        )
    described = {**architecture, "arch_kwargs_req_import": architecture["_kw_requires_import"]}
    if problem := next(architecture_problems(described), ""):
        raise PlansError(f"plans.json: {problem}")
    if wrong := wrong_class(architecture, networks=STOCK_NETWORKS):
        raise SettingsError(
            f"the network is made of {wrong}, which isn't part of nnU-Net: whoever predicts needs nnunet_transfer installed"
        )
    expected = _shapes(plans, dataset_json, configuration)
    for fold, content in contents.items():
        if str(content["init_args"].get("configuration")) != configuration:
            raise CheckpointError(f"{fold} was trained with another configuration than {configuration}")
        found = {key: tuple(getattr(value, "shape", ())) for key, value in content["network_weights"].items()}
        if differing := sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)):
            raise CheckpointError(
                f"the weights of {fold} are not those of the network in plans.json (in {counted(len(differing), 'tensor')}, such "
                f"as {differing[0]}): not exported"
            )


def _shapes(
    plans: Mapping[str, Any], dataset_json: Mapping[str, Any], configuration: str
) -> dict[str, tuple[int, ...]]:
    """Return the tensors of the network that nnU-Net builds for a prediction; without weights."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        manager = PlansManager(dict(plans))
        settings = manager.get_configuration(configuration)
        with torch.device("meta"):
            network = nnUNetTrainer.build_network_architecture(
                manager,
                settings,
                determine_num_input_channels(manager, settings, dict(dataset_json)),
                manager.get_label_manager(dict(dataset_json)).num_segmentation_heads,
                enable_deep_supervision=False,
            )
    except Exception as error:
        # plans and dataset.json may contain anything; networks report inconsistent settings with many error types
        raise PlansError(f"nnU-Net can't build the network of plans.json ({type(error).__name__}: {error})") from error
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def _without_donors(dataset_json: Any) -> Any:
    return {k: v for k, v in dataset_json.items() if k != DONORS} if isinstance(dataset_json, Mapping) else dataset_json


def _without_names(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transfer report without the donors whom its warnings name."""
    warnings = report.get("warnings")
    if not isinstance(warnings, list):
        return dict(report)
    return {**report, "warnings": [without_donor_names(w) if isinstance(w, str) else w for w in warnings]}


def _write(
    folder: Path,
    written: Path,
    contents: Mapping[str, Any],
    checkpoint: str,
    extras: Sequence[str],
    dataset_json: Mapping[str, Any],
    reports: Mapping[str, Mapping[str, Any]],
) -> None:
    import torch

    for fold, content in contents.items():
        (written / fold).mkdir(parents=True)
        torch.save(content, written / fold / checkpoint)
        if fold in reports:
            write_json(written / fold / _REPORT, _without_names(reports[fold]))
    write_json(written / _DATASET, dataset_json)
    for name in (_PLANS, *extras):
        (written / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, written / name)


def _archive(folder: Path, output: Path) -> None:
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(folder).as_posix())
