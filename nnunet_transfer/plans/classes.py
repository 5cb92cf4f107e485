"""Class names allowed in plans and source cards. Names are compared as text; nothing named in a file is imported.

nnU-Net imports and calls the classes named in plans, with arguments from the same file (`get_network_from_plans`,
`recursive_find_python_class`, nnunetv2 2.8.1). Importing a module runs its code, so only names in the tables
below are allowed. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_NETWORKS = "dynamic_network_architectures.architectures.unet."
_BLOCKS = "dynamic_network_architectures.building_blocks."
_OWN = "nnunet_transfer.networks."

#: classes of networks that come with nnU-Net
STOCK_NETWORKS = frozenset(_NETWORKS + name for name in ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"))
_OWN_NETWORKS = ("stunet.STUNet", "genesis_unet.GenesisUNet", "monai_unet.MonaiUNet", "anatomix_unet.AnatomixUNet")
#: classes of networks
NETWORKS = STOCK_NETWORKS | {_OWN + name for name in _OWN_NETWORKS}
#: module in torch.nn.modules -> its layers, all of which are also in torch.nn
_TORCH_LAYERS = {
    "conv": ("Conv2d", "Conv3d"),
    "batchnorm": ("BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"),
    "instancenorm": ("InstanceNorm2d", "InstanceNorm3d"),
    "normalization": ("GroupNorm", "LayerNorm"),
    "dropout": ("Dropout", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"),
    "activation": (
        *("CELU", "ELU", "GELU", "Hardswish", "LeakyReLU", "Mish", "PReLU", "ReLU", "ReLU6", "SELU", "SiLU"),
        *("Sigmoid", "Softplus", "Tanh"),
    ),
    "linear": ("Identity",),
}
#: classes of layers and blocks
LAYERS = frozenset(
    (
        *(f"torch.nn.modules.{module}.{name}" for module, names in _TORCH_LAYERS.items() for name in names),
        *(f"torch.nn.{name}" for names in _TORCH_LAYERS.values() for name in names),
        *(_BLOCKS + f"residual.{name}" for name in ("BasicBlockD", "BottleneckD")),
        _BLOCKS + "patch_encode_decode.LayerNormNd",
    )
)
#: nnU-Net's normalisation schemes
NORMALIZATION_SCHEMES = frozenset(
    ("ZScoreNormalization", "CTNormalization", "NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization")
)
#: those of them that nnU-Net can compute within a mask, because they leave the voxels outside at 0
MASKED_SCHEMES = frozenset(("ZScoreNormalization",))
_RESAMPLING = frozenset(
    ("resample_data_or_seg_to_shape", "resample_torch_simple", "resample_torch_fornnunet", "no_resampling_hack")
)
#: other names that nnU-Net looks up: setting of plans -> its names
PLANS_NAMES: Mapping[str, frozenset[str]] = {
    "image_reader_writer": frozenset(
        ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient", "NaturalImage2DIO", "Tiff3DIO")
    ),
    "label_manager": frozenset(("LabelManager",)),
}
#: the same for a configuration
CONFIGURATION_NAMES: Mapping[str, frozenset[str]] = {
    "preprocessor_name": frozenset(("DefaultPreprocessor",)),
    "resampling_fn_data": _RESAMPLING,
    "resampling_fn_seg": _RESAMPLING,
    "resampling_fn_probabilities": _RESAMPLING,
    "normalization_schemes": NORMALIZATION_SCHEMES,
}


def wrong_class(architecture: Mapping[str, Any], *, networks: frozenset[str] = NETWORKS) -> str:
    """Return the first name in an architecture, with the keys of plans, that is not in the tables; empty if all are."""
    network = architecture["network_class_name"]
    if not _is_in(network, networks):
        return str(network)
    kwargs = architecture["arch_kwargs"]
    # a key that isn't text isn't a name
    layers = (kwargs.get(key) if isinstance(key, str) else str(key) for key in architecture["_kw_requires_import"])
    return next((str(name) for name in layers if name is not None and not _is_in(name, LAYERS)), "")


def _is_in(name: object, names: frozenset[str]) -> bool:
    return isinstance(name, str) and name in names


def foreign_names(plans: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each setting and name in plans that nnU-Net would look up but stock nnU-Net doesn't have.

    Accepts malformed plans. `wrong_class` checks the architecture.
    """
    yield from _foreign(plans, PLANS_NAMES)
    configurations = plans.get("configurations")
    for configuration in configurations.values() if isinstance(configurations, Mapping) else ():
        if isinstance(configuration, Mapping):
            yield from _foreign(configuration, CONFIGURATION_NAMES)


def _foreign(settings: Mapping[str, Any], known: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str]]:
    for key, names in known.items():
        value = settings.get(key)
        for name in value if isinstance(value, list | tuple) else (value,):
            if name is not None and not _is_in(name, names):
                yield key, str(name)
