"""Networks of published checkpoints that nnU-Net's own classes can't compute.

Plans and source cards name these classes, and nnU-Net imports them by that name wherever this package is installed. They
take the keywords that nnU-Net gives its own U-Nets and have the same parts: `encoder`, `decoder`, `decoder.seg_layers`,
`decoder.deep_supervision`.
"""
