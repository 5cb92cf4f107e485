"""Networks of published checkpoints that nnU-Net's own classes can't represent.

Plans and source cards name these classes, and nnU-Net imports them by name if this package is installed. They accept the
keyword arguments of nnU-Net's U-Nets and have the same parts: `encoder`, `decoder`, `decoder.seg_layers`,
`decoder.deep_supervision`.
"""
