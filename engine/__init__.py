"""Physics of tumor growth in a brain: atlases, models, simulations and stores of them."""

from engine.anatomy import Anatomy, load_anatomy
from engine.atlas import Atlas, load_atlas
from engine.errors import InputError
from engine.grid import GRIDS, Grid
from engine.imaging import CORE_THRESHOLD_RANGE, EDEMA_THRESHOLD_RANGE, observe, render_image
from engine.nearest import nearest_tissue
from engine.parameters import FisherKolmogorovParameters, MassEffectParameters
from engine.sampling import PRIORS, Prior, random_stream
from engine.simulate import Simulated, SimulationResult, simulate, simulate_stream
from engine.store import Store, create_store, open_store

__all__ = [
    "CORE_THRESHOLD_RANGE",
    "EDEMA_THRESHOLD_RANGE",
    "GRIDS",
    "PRIORS",
    "Anatomy",
    "Atlas",
    "FisherKolmogorovParameters",
    "Grid",
    "InputError",
    "MassEffectParameters",
    "Prior",
    "Simulated",
    "SimulationResult",
    "Store",
    "create_store",
    "load_anatomy",
    "load_atlas",
    "nearest_tissue",
    "observe",
    "open_store",
    "random_stream",
    "render_image",
    "simulate",
    "simulate_stream",
]
