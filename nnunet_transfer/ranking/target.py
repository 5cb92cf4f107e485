"""The target that sources are ranked for: its preprocessed training cases, patches of them, and its network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from numpy.typing import NDArray
from torch import nn

from nnunet_transfer._nnunet import default_splits
from nnunet_transfer.channels import channel_names
from nnunet_transfer.errors import DataError, PlansError, SettingsError
from nnunet_transfer.files import read_json
from nnunet_transfer.finetuning.features import Labelling
from nnunet_transfer.folds import read_folds
from nnunet_transfer.paths import dataset_name, nnunet_preprocessed
from nnunet_transfer.subjects import find_origin, manifest_folder, ordered_by_subject

#: share of the patches that are centred on a voxel of a foreground class, the classes in turn
_FOREGROUND = 0.5


@dataclass(frozen=True)
class Target:
    """A preprocessed data set with plans and configuration.

    Attributes
    ----------
    dataset : folder name
    cases : training cases that are used
    subjects : case -> subject
    files : nnU-Net's access to the preprocessed cases
    """

    dataset: str
    plans: PlansManager
    configuration: ConfigurationManager
    labels: LabelManager
    dataset_json: dict[str, Any]
    cases: tuple[str, ...]
    subjects: dict[str, str]
    files: Any

    @property
    def labelling(self) -> Labelling:
        """How nnU-Net codes the labels."""
        manager = self.labels
        return Labelling(manager.num_segmentation_heads, manager.has_regions, manager.ignore_label)

    @property
    def channels(self) -> list[str]:
        """Names of the input channels, in order."""
        return list(channel_names(self.dataset_json))

    @property
    def classes(self) -> list[tuple[int, ...]]:
        """Foreground classes or regions, each as the labels it holds."""
        found = self.labels.foreground_regions if self.labels.has_regions else self.labels.foreground_labels
        return [tuple(c) if isinstance(c, list | tuple) else (int(c),) for c in found]

    def load(self, case: str) -> tuple[torch.Tensor, NDArray[np.int16], dict[str, Any]]:
        """Return image `(channel, *spatial)`, labels `(*spatial)` and nnU-Net's properties of a case."""
        data, labels, _, properties = self.files.load_case(case)
        return torch.from_numpy(np.array(data[:], np.float32)), np.maximum(np.array(labels[0], np.int16), 0), properties


def open_target(
    dataset: str, configuration: str, plans: str, *, fold: int | None = None, limit: int | None = None, seed: int = 0
) -> Target:
    """Open a target's preprocessed training cases.

    Parameters
    ----------
    fold : use this fold's training cases only; None for all cases of the data set
    limit : at most so many cases, whole subjects drawn at random

    Raises
    ------
    TransferError
        If something is missing, or fewer than two subjects are left.
    """
    name = dataset_name(dataset)
    folder = nnunet_preprocessed() / name
    plans_file = folder / f"{plans}.json"
    if not plans_file.is_file():
        raise PlansError(f"{plans_file} does not exist; make it with `nnunet_transfer plan -d {dataset}`")
    manager = PlansManager(str(plans_file))
    if configuration not in manager.available_configurations:
        known = ", ".join(manager.available_configurations)
        raise SettingsError(f"{plans} has no configuration {configuration}; there are: {known}")
    chosen = manager.get_configuration(configuration)
    if chosen.previous_stage_name:
        raise SettingsError(
            f"{configuration} also reads the labels of {chosen.previous_stage_name}; rank on that or on another configuration"
        )
    data = folder / chosen.data_identifier
    if not data.is_dir() or not any(data.iterdir()):
        raise DataError(f"{data} holds no cases; run nnUNetv2_preprocess -d {dataset} -plans_name {plans}")
    content = read_json(folder / "dataset.json")
    files = infer_dataset_class(str(data))(str(data))
    cases = sorted(files.identifiers)
    if fold is not None:
        cases = _training_cases(name, configuration, plans, fold, cases)
    manifests = manifest_folder(name)
    cases = sorted(ordered_by_subject(cases, manifests, seed)[:limit]) if limit else cases
    subjects = find_origin(cases, manifests).subject
    if len(set(subjects.values())) < 2:
        raise DataError(
            f"{name} has {len(set(subjects.values()))} subject here; ranking fits heads on some and tries them on others"
        )
    labels = manager.get_label_manager(content)
    return Target(name, manager, chosen, labels, content, tuple(cases), subjects, files)


def _training_cases(dataset: str, configuration: str, plans: str, fold: int, cases: Sequence[str]) -> list[str]:
    path = nnunet_preprocessed() / dataset / "splits_final.json"
    splits = read_folds(path) if path.is_file() else default_splits(dataset, plans, configuration)
    if not 0 <= fold < len(splits):
        raise SettingsError(f"{dataset} has the folds 0 to {len(splits) - 1}, not {fold}")
    return sorted(set(splits[fold]["train"]) & set(cases))


def build_network(target: Target, seed: int) -> nn.Module:
    """Return a randomly initialised network of the target's plans, with deep supervision; global seeds stay."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = nnUNetTrainer.build_network_architecture(
            target.plans,
            target.configuration,
            len(target.channels),
            target.labels.num_segmentation_heads,
            enable_deep_supervision=True,
        )
    return network.eval()


def output_shapes(network: nn.Module, target: Target, device: torch.device) -> list[tuple[int, ...]]:
    """Return the spatial shape of each output for one patch, the finest first."""
    patch = torch.zeros(1, len(target.channels), *target.configuration.patch_size, device=device)
    with torch.no_grad():
        outputs = network(patch)
    return [tuple(o.shape[2:]) for o in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def draw_patches(
    target: Target, case: str, count: int, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator
) -> dict[str, Any]:
    """Draw patches of a case, half of them around its foreground classes in turn.

    Returns
    -------
    batch : `data`, shape `(patch, channel, *spatial)`, and `target`, one tensor per output as nnU-Net's loss sees it
    """
    data, labels, properties = target.load(case)
    known = properties.get("class_locations") or {}
    located = [np.asarray(v)[:, 1:] for k, v in known.items() if len(v) and k not in (0, target.labels.ignore_label)]
    images, segmentations = [], []
    for number in range(count):
        if located and number < _FOREGROUND * count:
            voxels = located[number % len(located)]
            centre = voxels[int(rng.integers(len(voxels)))]
        else:
            centre = rng.integers(0, labels.shape)
        image, segmentation = _cut(data.numpy(), labels, centre, target.configuration.patch_size)
        images.append(image)
        segmentations.append(segmentation)
    coded = _coded(torch.from_numpy(np.stack(segmentations)).long(), target)
    targets = [nn.functional.interpolate(coded.float(), size=shape, mode="nearest") for shape in shapes]
    return {"data": torch.from_numpy(np.stack(images)), "target": targets}


def _cut(
    data: NDArray[np.float32], labels: NDArray[np.int16], centre: NDArray[np.integer[Any]], patch: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Cut a patch around a voxel, moved inside the image or padded with zeros if larger; a 2D patch comes from its slice."""
    if len(patch) < labels.ndim:
        data, labels, centre = data[:, centre[0]], labels[centre[0]], centre[1:]
    box = []
    for size, middle, whole in zip(patch, centre.tolist(), labels.shape, strict=True):
        inside = int(np.clip(middle - size // 2, 0, max(0, whole - size)))
        start = inside if whole >= size else -((size - whole) // 2)
        box.append([start, start + size])
    return crop_and_pad_nd(data, box), crop_and_pad_nd(labels, box)


def _coded(segmentation: torch.Tensor, target: Target) -> torch.Tensor:
    """Return labels with a channel axis, or a channel per region and one for ignored voxels."""
    if not target.labels.has_regions:
        return segmentation[:, None]
    channels = [torch.isin(segmentation, torch.tensor(region)) for region in target.classes]
    if target.labels.ignore_label is not None:
        channels.append(segmentation == target.labels.ignore_label)
    return torch.stack(channels, dim=1)


def predict(network: nn.Module, target: Target, image: torch.Tensor, device: torch.device) -> NDArray[np.int16]:
    """Predict a whole preprocessed case by nnU-Net's sliding window, without mirroring; return its labels."""
    supervised = getattr(network.decoder, "deep_supervision", None)
    network.decoder.deep_supervision = False  # type: ignore[union-attr]
    try:
        predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_gaussian=True,
            use_mirroring=False,
            perform_everything_on_device=device.type == "cuda",
            device=device,
            verbose=False,
            verbose_preprocessing=False,
            allow_tqdm=False,
        )
        predictor.manual_initialization(
            network, target.plans, target.configuration, None, target.dataset_json, "nnUNetTrainer", None
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=UserWarning)
            logits = predictor.predict_sliding_window_return_logits(image).cpu()
    finally:
        network.decoder.deep_supervision = supervised  # type: ignore[union-attr]
    return np.asarray(target.labels.convert_logits_to_segmentation(logits), np.int16)
