"""Pre-training on images alone: masked autoencoding, Models Genesis, SimCLR."""
