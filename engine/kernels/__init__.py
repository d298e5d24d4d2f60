"""Kernels: each model's innermost loops, one file a model and language."""
