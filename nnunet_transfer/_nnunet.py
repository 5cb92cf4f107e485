"""The one place that touches nnU-Net's internals. Checked against nnunetv2 2.8.1.

Everything here mirrors a documented nnU-Net command without its process pools: nnU-Net starts spawn pools for
validation, fingerprints and preprocessing, and each worker imports nnunetv2 again (seconds). For many small runs
after one another that costs more than the work itself.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nibabel.filebasedimages import ImageFileError
from nnunetv2.evaluation.evaluate_predictions import compute_metrics, save_summary_json
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases, verify_labels
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.inference.export_prediction import export_prediction_from_logits, resample_and_save
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities import utils
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.label_handling.label_handling import LabelManager, convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from torch import nn

from nnunet_transfer.channels import channel_names
from nnunet_transfer.errors import DataError, one_line
from nnunet_transfer.files import atomic_folder, atomic_path, write_json
from nnunet_transfer.folds import NNUNET_FOLDS, check_enough_cases
from nnunet_transfer.paths import dataset_name, nnunet_preprocessed, nnunet_raw

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

log = logging.getLogger(__name__)

#: most samples per voxel of a case; more add nothing about its intensities
DRAWS_PER_VOXEL = 20


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the plain network inside DistributedDataParallel's and torch.compile's wrappers."""
    network = getattr(network, "module", network) if _is_ddp(network) else network
    return getattr(network, "_orig_mod", network)


def rewrapped(network: nn.parallel.DistributedDataParallel) -> nn.parallel.DistributedDataParallel:
    """Return a new DistributedDataParallel wrapper around the same network and devices."""
    return nn.parallel.DistributedDataParallel(network.module, device_ids=network.device_ids)


def _is_ddp(network: nn.Module) -> bool:
    return isinstance(network, nn.parallel.DistributedDataParallel)


def run_training_in_process(
    dataset: str | int,
    configuration: str,
    fold: int | str,
    trainer: type[nnUNetTrainer],
    plans: str,
    *,
    device: torch.device,
    continue_training: bool = False,
) -> nnUNetTrainer:
    """Do what `nnUNetv2_train` does, training and validation, with a given trainer class; return the trainer."""
    from nnunetv2.run.run_training import maybe_load_checkpoint

    folder = nnunet_preprocessed() / dataset_name(dataset)
    plans_content = load_json(str(folder / f"{plans}.json"))
    plans_content["continue_training"] = continue_training
    instance = trainer(
        plans=plans_content,
        configuration=configuration,
        fold=fold,
        dataset_json=load_json(str(folder / "dataset.json")),
        device=device,
    )
    maybe_load_checkpoint(instance, continue_training, validation_only=False)
    instance.run_training()
    instance.perform_actual_validation()
    return instance


def run_stock_training(
    dataset: str | int, configuration: str, fold: int | str, trainer: str, plans: str, *, device: torch.device
) -> None:
    """Do what `nnUNetv2_train --c` does on a GPU; the trainer's class is found by name."""
    from nnunetv2.run.run_training import run_training

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    run_training(
        str(dataset),
        configuration,
        str(fold),
        trainer,
        plans,
        continue_training=True,
        device=device,
    )


def default_splits(dataset: str | int, plans: str, configuration: str) -> list[dict[str, list[str]]]:
    """Return the folds that `nnUNetTrainer.do_split` would make for preprocessed data without splits.

    Raises
    ------
    DataError
        If there are fewer cases than folds.
    """
    folder = nnunet_preprocessed() / dataset_name(dataset)
    data = folder / PlansManager(str(folder / f"{plans}.json")).get_configuration(configuration).data_identifier
    # nnU-Net sorts them, too: the order in which a disk lists files differs
    cases = sorted(infer_dataset_class(str(data)).get_identifiers(str(data)))
    check_enough_cases(folder.name, len(cases))
    return generate_crossval_split(cases, seed=12345, n_splits=NNUNET_FOLDS)


def validate_in_process(trainer: nnUNetTrainer, save_probabilities: bool = False) -> dict[str, Any]:
    """Predict and score the validation fold like `nnUNetTrainer.perform_actual_validation`, without workers.

    Writes the same files: `validation/<case><ending>`, `validation/summary.json` and, for the next stage of a cascade,
    `predicted_next_stage`.

    Returns
    -------
    dict
        The content of `summary.json`.
    """
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = _predictor(trainer)
    folder = Path(trainer.output_folder) / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    _, cases = trainer.do_split()
    dataset = trainer.dataset_class(
        trainer.preprocessed_dataset_folder,
        cases,
        folder_with_segs_from_previous_stage=trainer.folder_with_segs_from_previous_stage,
    )
    for case in dataset.identifiers:
        trainer.print_to_log_file(f"predicting {case}")
        image, properties = _network_input(trainer, dataset, case)
        logits = predictor.predict_sliding_window_return_logits(image).cpu()
        export_prediction_from_logits(
            logits,
            properties,
            trainer.configuration_manager,
            trainer.plans_manager,
            trainer.dataset_json,
            str(folder / case),
            save_probabilities,
            # the default is the number of worker processes, which may be 0 here
            num_threads_torch=torch.get_num_threads(),
        )
        _save_for_next_stages(trainer, case, logits, properties)
    summary = _score_in_process(trainer, folder, sorted(cases))
    trainer.print_to_log_file("Validation complete")
    trainer.print_to_log_file("Mean Validation Dice: ", summary["foreground_mean"]["Dice"])
    trainer.set_deep_supervision_enabled(True)
    compute_gaussian.cache_clear()
    return summary


def _predictor(trainer: nnUNetTrainer) -> nnUNetPredictor:
    """Return a predictor with the settings of nnU-Net's validation."""
    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=True,
        perform_everything_on_device=True,
        device=trainer.device,
        verbose=False,
        verbose_preprocessing=False,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        trainer.__class__.__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor


def _network_input(trainer: nnUNetTrainer, dataset: Any, case: str) -> tuple[torch.Tensor, dict[str, Any]]:
    """Return what the network reads of a case, with the labels of a cascade's first stage, and the case's properties."""
    data, _, previous, properties = dataset.load_case(case)
    if trainer.is_cascaded:
        labels = trainer.label_manager.foreground_labels
        data = np.vstack((data[:], convert_labelmap_to_one_hot(previous[:], labels, output_dtype=data.dtype)))
    with warnings.catch_warnings():
        # blosc2 returns read-only memory, which is enough for the predictor
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ", category=UserWarning)
        return torch.from_numpy(data[:]), properties


def _save_for_next_stages(trainer: nnUNetTrainer, case: str, logits: torch.Tensor, properties: dict[str, Any]) -> None:
    """Save a case's prediction where a cascade's next stage looks for it, on that stage's grid."""
    for name in trainer.configuration_manager.next_stage_names or ():
        data = nnunet_preprocessed() / trainer.plans_manager.dataset_name
        data /= trainer.plans_manager.get_configuration(name).data_identifier
        dataset_class = infer_dataset_class(str(data)) if data.is_dir() else None
        if dataset_class is None or case not in dataset_class.get_identifiers(str(data)):
            trainer.print_to_log_file(
                f"{case} is not preprocessed for {name}: its prediction is not saved for that stage"
            )
            continue
        shape = dataset_class(str(data), [case]).load_case(case)[0].shape[1:]
        folder = Path(trainer.output_folder_base) / "predicted_next_stage" / name
        folder.mkdir(parents=True, exist_ok=True)
        resample_and_save(
            logits,
            shape,
            str(folder / case),
            trainer.plans_manager,
            trainer.configuration_manager,
            properties,
            trainer.dataset_json,
            torch.get_num_threads(),
            dataset_class,
        )


def _score_in_process(trainer: nnUNetTrainer, folder: Path, cases: list[str]) -> dict[str, Any]:
    ending = trainer.dataset_json["file_ending"]
    reference = Path(trainer.preprocessed_dataset_folder_base) / "gt_segmentations"
    labels = trainer.label_manager
    classes = labels.foreground_regions if labels.has_regions else labels.foreground_labels
    reader = trainer.plans_manager.image_reader_writer_class()
    per_case = [
        compute_metrics(
            str(reference / f"{case}{ending}"),
            str(folder / f"{case}{ending}"),
            reader,
            classes,
            labels.ignore_label,
        )
        for case in cases
    ]
    metrics = list(per_case[0]["metrics"][classes[0]])
    with warnings.catch_warnings():
        # a class absent from all cases is NaN, as in nnU-Net
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        mean = {
            c: {m: float(np.nanmean([case["metrics"][c][m] for case in per_case])) for m in metrics} for c in classes
        }
    foreground = {m: float(np.mean([mean[c][m] for c in classes])) for m in metrics}
    for case in per_case:
        recursive_fix_for_json_export(case)
    summary = {"metric_per_case": per_case, "mean": mean, "foreground_mean": foreground}
    with atomic_path(folder / "summary.json") as temporary:
        save_summary_json(summary, str(temporary))
    return summary


@contextlib.contextmanager
def files_listed_in_threads() -> Iterator[None]:
    """List a data set's files with threads; nnU-Net starts twelve processes for this."""
    before = utils.Pool
    utils.Pool = ThreadPool
    try:
        yield
    finally:
        utils.Pool = before


def verify_cases_in_process(dataset: str | int) -> None:
    """Check values and grids of all training cases as `nnUNetv2_extract_fingerprint --verify_dataset_integrity` does.

    Raises
    ------
    DataError
        With what nnU-Net says of the first case that it can't train on.
    """
    folder = nnunet_raw() / dataset_name(dataset)
    content = load_json(str(folder / "dataset.json"))
    with files_listed_in_threads():
        cases = get_filenames_of_train_images_and_targets(str(folder), content)
    labels = LabelManager(content["labels"], regions_class_order=content.get("regions_class_order"))
    values = [*labels.all_labels, *([labels.ignore_label] if labels.has_ignore_label else [])]
    reader = None
    for case, files in cases.items():
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                reader = reader or determine_reader_writer_from_dataset_json(content, files["images"][0])
                fits = verify_labels(files["label"], reader, values)
                fits = check_cases(files["images"], files["label"], len(channel_names(content)), reader) and fits
        except (RuntimeError, OSError, ValueError, ImageFileError) as error:
            raise DataError(f"case {case} of {folder.name} can't be read: {one_line(error, 300)}") from None
        if not fits:
            raise DataError(f"case {case} of {folder.name} can't be trained on: {one_line(said.getvalue(), 600)}")


def refuse_unlabelled(dataset: str | int) -> None:
    """Raise a `DataError` if no training case has a labelled voxel: nnU-Net's fingerprint fails on such data, or never ends."""
    with files_listed_in_threads():
        extractor = DatasetFingerprintExtractor(dataset_name(dataset))
    reader = None
    for case in extractor.dataset.values():
        reader = reader or determine_reader_writer_from_dataset_json(extractor.dataset_json, case["images"][0])()
        if (reader.read_seg(case["label"])[0] > 0).any():
            return
    raise DataError(
        f"no case of {extractor.dataset_name} has a labelled voxel, of whose intensities nnU-Net plans; correct the labels"
    )


def extract_fingerprint_in_process(dataset: str | int, *, foreground_voxels: int = 100_000_000) -> Path:
    """Write `dataset_fingerprint.json` and `dataset.json` as `nnUNetv2_extract_fingerprint` does, without workers.

    Parameters
    ----------
    foreground_voxels : number drawn, with replacement, for the intensity statistics over the whole data set; nnU-Net's
        default takes gigabytes and is needless for small images, of which fewer are drawn: `DRAWS_PER_VOXEL` per case

    Returns
    -------
    Path
        The data set's folder in `nnUNet_preprocessed`.
    """
    with files_listed_in_threads():
        extractor = DatasetFingerprintExtractor(dataset_name(dataset))
    cases = list(extractor.dataset.values())
    reader = determine_reader_writer_from_dataset_json(extractor.dataset_json, cases[0]["images"][0])
    first_label, _ = reader().read_seg(cases[0]["label"])
    samples = min(foreground_voxels // len(cases), DRAWS_PER_VOXEL * first_label.size)
    analysed = [extractor.analyze_case(case["images"], case["label"], reader, samples) for case in cases]
    shapes, spacings, intensities, _, relative_sizes = zip(*analysed, strict=True)
    channels = [np.concatenate(channel) for channel in zip(*intensities, strict=True)]
    folder = nnunet_preprocessed() / extractor.dataset_name
    write_json(
        folder / "dataset_fingerprint.json",
        {
            "spacings": [[float(s) for s in spacing] for spacing in spacings],
            "shapes_after_crop": [[int(n) for n in shape] for shape in shapes],
            "foreground_intensity_properties_per_channel": {
                str(i): _intensity_properties(values) for i, values in enumerate(channels)
            },
            "median_relative_size_after_cropping": float(np.median(relative_sizes)),
        },
    )
    write_json(folder / "dataset.json", extractor.dataset_json)
    return folder


def _intensity_properties(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.percentile(values, (0.5, 50.0, 99.5))
    return {
        "mean": float(values.mean()),
        "median": float(median),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "percentile_99_5": float(high),
        "percentile_00_5": float(low),
    }


def preprocess_in_process(dataset: str | int, plans: str, configurations: Sequence[str]) -> None:
    """Preprocess as `nnUNetv2_preprocess` does, without workers; each configuration's folder appears when complete."""
    name = dataset_name(dataset)
    folder = nnunet_preprocessed() / name
    manager = PlansManager(str(folder / f"{plans}.json"))
    content = load_json(str(folder / "dataset.json"))
    with files_listed_in_threads():
        cases = get_filenames_of_train_images_and_targets(str(nnunet_raw() / name), content)
    for configuration_name in configurations:
        configuration = manager.get_configuration(configuration_name)
        preprocessor = configuration.preprocessor_class(verbose=False)
        with atomic_folder(folder / configuration.data_identifier, overwrite=True) as output:
            for case, files in cases.items():
                preprocessor.run_case_save(
                    str(output / case), files["images"], files["label"], manager, configuration, content
                )
    references = folder / "gt_segmentations"
    for case, files in cases.items():
        with atomic_path(references / f"{case}{content['file_ending']}") as temporary:
            shutil.copyfile(files["label"], temporary)
