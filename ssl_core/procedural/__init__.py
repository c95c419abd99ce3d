"""Public data made from a seed: images and signals that describe nobody, in a study's declared format."""
