"""Profiles: named architectures that are the same for every data set. No torch.

nnU-Net adapts kernels, strides and the number of stages to each data set, so weights of one data set don't fit another.
A profile fixes them, and leaves spacing, normalisation, patch and batch size to nnU-Net's rules. Widths are the same in
2D and 3D, so that 2D weights can be inflated.
"""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_transfer.errors import PlansError
from nnunet_transfer.plans.architectures import Architecture
from nnunet_transfer.registration import did_you_mean

_NETWORKS = "dynamic_network_architectures.architectures.unet."
_BLOCKS = "dynamic_network_architectures.building_blocks.residual."


@dataclass(frozen=True)
class Memory:
    """nnU-Net's scale for a GPU memory budget.

    Attributes
    ----------
    reference_3d, reference_2d : size of all feature maps that fits the budget with the reference batch size
    gigabytes : the budget
    share_of_dataset : largest part of the data set's voxels in one batch
    """

    reference_3d: int
    reference_2d: int
    gigabytes: float
    share_of_dataset: float


#: nnunetv2 2.8.1: ExperimentPlanner, nnUNetPlannerResEncM and nnUNetPlannerResEncL
PLAIN_8GB = Memory(560_000_000, 85_000_000, 8, 0.05)
RESENC_M = Memory(680_000_000, 135_000_000, 8, 1)
RESENC_L = Memory(2_100_000_000, 380_000_000, 24, 1)


@dataclass(frozen=True)
class Profile:
    """An architecture's shape.

    Attributes
    ----------
    description : description in one line
    features : output channels per stage; stage 0 has full resolution, and each further stage half the previous one
    blocks : residual blocks, or convolutions of a plain encoder, per stage
    decoder_convolutions : convolutions per decoder stage
    residual : residual encoder (ResNet-D blocks) or plain
    norms : norm for 2D and 3D
    nonlin : nonlinearity
    conv_bias : whether convolutions have a bias
    bottleneck_channels : inner channels per stage of bottleneck blocks; empty for basic blocks
    memory : nnU-Net's scale for patch and batch size
    """

    description: str
    features: tuple[int, ...]
    blocks: tuple[int, ...]
    decoder_convolutions: int = 1
    residual: bool = True
    norms: tuple[str, str] = ("InstanceNorm", "InstanceNorm")
    nonlin: str = "LeakyReLU"
    conv_bias: bool = True
    bottleneck_channels: tuple[int, ...] = ()
    memory: Memory = RESENC_M

    def architecture(self, dimensions: int) -> Architecture:
        """Return the architecture for 2 or 3 axes in the format of nnU-Net's plans; kernels 3, strides 2."""
        stages = len(self.features)
        norm = self.norms[dimensions - 2]
        kwargs = {
            "n_stages": stages,
            "features_per_stage": list(self.features),
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [[3] * dimensions for _ in range(stages)],
            "strides": [[1 if stage == 0 else 2] * dimensions for stage in range(stages)],
            ("n_blocks_per_stage" if self.residual else "n_conv_per_stage"): list(self.blocks),
            "n_conv_per_stage_decoder": [self.decoder_convolutions] * (stages - 1),
            "conv_bias": self.conv_bias,
            "norm_op": f"torch.nn.modules.{norm.lower()}.{norm}{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": f"torch.nn.{self.nonlin}",
            "nonlin_kwargs": {"inplace": True},
        }
        imports = ["conv_op", "norm_op", "dropout_op", "nonlin"]
        if self.bottleneck_channels:
            kwargs["block"] = _BLOCKS + "BottleneckD"
            kwargs["bottleneck_channels"] = list(self.bottleneck_channels)
            imports.append("block")
        return {
            "network_class_name": _NETWORKS + ("ResidualEncoderUNet" if self.residual else "PlainConvUNet"),
            "arch_kwargs": kwargs,
            "_kw_requires_import": imports,
        }


def _resnet(
    depth: int, blocks: tuple[int, ...], features: tuple[int, ...], bottleneck: tuple[int, ...] = ()
) -> Profile:
    # BatchNorm in 2D, as in ResNets, so that ImageNet weights keep their function. In 3D, nnU-Net's batches of two
    # make batch statistics too noisy (Wu and He, ECCV 2018, doi 10.1007/978-3-030-01261-8_1): InstanceNorm.
    return Profile(
        f"ResNet-{depth}-D encoder, takes ImageNet weights",
        features,
        blocks,
        norms=("BatchNorm", "InstanceNorm"),
        nonlin="ReLU",
        conv_bias=False,
        bottleneck_channels=bottleneck,
    )


#: block counts and widths of the ResNets: He et al., CVPR 2016, table 1, after a full-resolution stage of one block
PROFILES: dict[str, Profile] = {
    "resnet18": _resnet(18, (1, 2, 2, 2, 2), (64, 64, 128, 256, 512)),
    "resnet34": _resnet(34, (1, 3, 4, 6, 3), (64, 64, 128, 256, 512)),
    "resnet50": _resnet(50, (1, 3, 4, 6, 3), (64, 256, 512, 1024, 2048), (16, 64, 128, 256, 512)),
    "resenc_m": Profile(
        "nnU-Net's residual encoder, for GPUs of 8 GB",
        (32, 64, 128, 256, 320, 320),
        (1, 3, 4, 6, 6, 6),
    ),
    "resenc_l": Profile(
        "nnU-Net's residual encoder, for GPUs of 24 GB",
        (32, 64, 128, 256, 320, 320),
        (1, 3, 4, 6, 6, 6),
        memory=RESENC_L,
    ),
    "plain": Profile(
        "nnU-Net's default U-Net",
        (32, 64, 128, 256, 320, 320),
        (2, 2, 2, 2, 2, 2),
        decoder_convolutions=2,
        residual=False,
        memory=PLAIN_8GB,
    ),
    "demo": Profile("small residual encoder for a CPU", (8, 16, 32, 64), (1, 1, 1, 1), memory=PLAIN_8GB),
}


def get_profile(name: str) -> Profile:
    """Return a profile by name.

    Raises
    ------
    PlansError
        If there is no profile with this name.
    """
    if name not in PROFILES:
        raise PlansError(f"unknown profile {name}; {did_you_mean(name, PROFILES)}")
    return PROFILES[name]
