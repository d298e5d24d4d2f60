"""The inversion: networks that estimate a tumor's parameters from what a scanner shows of it."""

from learn.estimator import Estimator
from learn.targets import QUANTITIES, Quantity, Targets
from learn.weights import default_weights, load_weights, save_weights

__all__ = [
    "QUANTITIES",
    "Estimator",
    "Quantity",
    "Targets",
    "default_weights",
    "load_weights",
    "save_weights",
]
