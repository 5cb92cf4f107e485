"""neurite-OASIS, automated labels of 414 brains."""

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout

#: FreeSurfer's structures numbered from 1, left side and midline first
_OASIS_LEFT = [
    "Cerebral-White-Matter",
    "Cerebral-Cortex",
    "Lateral-Ventricle",
    "Inf-Lat-Vent",
    "Cerebellum-White-Matter",
    "Cerebellum-Cortex",
    "Thalamus",
    "Caudate",
    "Putamen",
    "Pallidum",
    "3rd-Ventricle",
    "4th-Ventricle",
    "Brain-Stem",
    "Hippocampus",
    "Amygdala",
    "Accumbens-area",
    "VentralDC",
    "vessel",
    "choroid-plexus",
]

_MIDLINE = ("3rd-Ventricle", "4th-Ventricle", "Brain-Stem")

_OASIS_35 = [
    *(name if name in _MIDLINE else f"Left-{name}" for name in _OASIS_LEFT),
    *(f"Right-{name}" for name in _OASIS_LEFT if name not in _MIDLINE),
]

NEURITE_OASIS = DatasetDescription(
    name="neurite_oasis",
    title="neurite-OASIS: 414 brains with automated labels (silver standard), also in the Learn2Reg layout",
    folder_name="NeuriteOASIS",
    licence="OASIS data use agreement",
    citation="Hoopes A et al., HyperMorph, IPMI 2021; Marcus DS et al., J Cogn Neurosci 2007;19:1498-1507",
    request="https://github.com/adalca/medical-datasets/blob/master/neurite-oasis.md",
    label_sets={
        "seg35": LabelRule({name: value for value, name in enumerate(_OASIS_35, start=1)}),
        "seg4": LabelRule({"cortex": 1, "subcortical grey matter": 2, "white matter": 3, "cerebrospinal fluid": 4}),
    },
    layouts=(
        Layout(
            prefix="{subject:OASIS_OAS1_[0-9]+}_{session:MR[0-9]+}/",
            images={"T1": "aligned_norm.nii[.gz]"},
            labels={name: f"aligned_{name}.nii[.gz]" for name in ("seg35", "seg4")},
        ),
        # file names of labels contain a channel number, which nnU-Net doesn't accept
        *(
            Layout(
                images={"T1": f"images{part}/{{subject:OASIS_[0-9]+}}_0000.nii[.gz]"},
                labels={"seg35": f"labels{part}/{{subject:OASIS_[0-9]+}}[_0000].nii[.gz]"},
                split=split,
            )
            for part, split in (("Tr", "train"), ("Ts", "test"))
        ),
    ),
    unconfirmed="names of the labels of seg35 and seg4: the publisher's seg35_labels.txt and seg4_labels.txt come with the "
    "download alone; compare them with label_map.json or dataset.json",
)
