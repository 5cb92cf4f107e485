"""Names of the 95 regions of the Hammers atlas n30r95, in the order of their values from 1.

Hammers A et al., Hum Brain Mapp 2003;19:224-247 (regions 1-49), Gousias IS et al., NeuroImage 2008;40:672-684 (50-83),
Faillenot I et al., NeuroImage 2017;150:88-98 (20, 21, 86-95).
"""

_RIGHT_FIRST = "{0} R|{0} L"
_LEFT_FIRST = "{0} L|{0} R"


def _sides(order: str, names: str) -> list[str]:
    return [side for name in names.split("|") for side in order.format(name).split("|")]


NAMES = (
    *_sides(
        _RIGHT_FIRST,
        "TL hippocampus|TL amygdala|TL anterior temporal lobe medial part|TL anterior temporal lobe lateral part|"
        "TL parahippocampal and ambient gyrus|TL superior temporal gyrus middle part|"
        "TL middle and inferior temporal gyrus|TL fusiform gyrus|cerebellum",
    ),
    "brainstem excluding substantia nigra",
    *_sides(
        _LEFT_FIRST,
        "insula posterior long gyrus|OL lateral remainder occipital lobe|CG anterior cingulate gyrus|"
        "CG posterior cingulate gyrus|FL middle frontal gyrus|TL posterior temporal lobe|PL angular gyrus|"
        "caudate nucleus|nucleus accumbens|putamen|thalamus|pallidum",
    ),
    "corpus callosum",
    *_sides(_RIGHT_FIRST, "lateral ventricle excluding temporal horn|lateral ventricle temporal horn"),
    "third ventricle",
    *_sides(
        _LEFT_FIRST,
        "FL precentral gyrus|FL straight gyrus|FL anterior orbital gyrus|FL inferior frontal gyrus|"
        "FL superior frontal gyrus|PL postcentral gyrus|PL superior parietal gyrus|OL lingual gyrus|OL cuneus|"
        "FL medial orbital gyrus|FL lateral orbital gyrus|FL posterior orbital gyrus|substantia nigra|"
        "FL subgenual frontal cortex|FL subcallosal area|FL pre-subgenual frontal cortex|"
        "TL superior temporal gyrus anterior part|PL supramarginal gyrus|insula anterior short gyrus|"
        "insula middle short gyrus|insula posterior short gyrus|insula anterior inferior cortex|"
        "insula anterior long gyrus",
    ),
)
