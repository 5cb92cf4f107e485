"""Fine-tuning: the base of the arms, their output layers fitted before the first step, frozen parts, learning rates."""
