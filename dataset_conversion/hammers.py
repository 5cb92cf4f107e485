"""Hammers n30r95, regions of 30 young adults."""

from __future__ import annotations

from nnunet_transfer.conversion.description import DatasetDescription, LabelRule, Layout
from nnunet_transfer.dataset_conversion._hammers_labels import NAMES as HAMMERS_NAMES

HAMMERS = DatasetDescription(
    name="hammers",
    title="Hammers n30r95: 95 manual regions of 30 young adults",
    folder_name="Hammers",
    licence="academic licence of Imperial College and King's College London",
    citation="Hammers A et al., Hum Brain Mapp 2003;19:224-247; Faillenot I et al., NeuroImage 2017;150:88-98",
    request="https://brain-development.org/brain-atlases/adult-brain-atlases",
    label_sets={"regions": LabelRule({name: value for value, name in enumerate(HAMMERS_NAMES, start=1)})},
    layouts=tuple(
        Layout(images={"T1": f"{image}.nii[.gz]"}, labels={"regions": f"{label}.nii[.gz]"})
        for image, label in (
            ("Hammers*MRI*/{subject:a[0-9]+}", "Hammers*label*/{subject:a[0-9]+}-seg"),
            ("Images/{subject:a[0-9]+}", "Labels/{subject:a[0-9]+}"),
            ("{subject:a[0-9]+}", "{subject:a[0-9]+}-seg"),
        )
    ),
    hint="in this data set the labels' headers are known to be displaced while the voxels correspond: look at a case, "
    "then take --geometry copy-from-image",
)
