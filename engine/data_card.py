"""A data card: what a store holds, in Markdown and pictures, for somebody who has not seen how it was made.

The quantiles stand beside those of the samples that were published with the paper. `PUBLISHED` was read off those
files; it is there to compare with, nothing is tuned to it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import InputError
from engine.pictures import draw_histograms, draw_mosaic
from engine.places import is_url, stored_bytes
from engine.rows import SPLITS, VOLUME_THRESHOLDS
from engine.store import Store, open_store
from engine.verify import content

QUANTILES = {"min": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "max": 1.0}
PUBLISHED = {
    "diffusivity": (0.02, 0.034, 0.42, 1.35, 1.5),
    "proliferation": (0.0063, 0.0124, 0.079, 0.186, 0.2),
    "duration": (50.0, 88.0, 295.0, 1150.0, 1498.0),
    "mu1": (2.7, 4.5, 9.7, 25.0, 45.0),
    "mu2": (2.8, 3.1, 4.1, 9.0, 16.6),
}
"""`QUANTILES` of the accepted Fisher-Kolmogorov samples published with Ezhov et al. (2023), in our units."""
DIFFERENCES = """\
Both keep tumors with 10 to 420 ml of c >= 0.7 out of the same uniform ranges, and differ for two reasons. The
published solver's one time step follows diffusion alone, so it is far too long where diffusion is slow and growth
fast: such tumors have .26 to .9 of the volume that they have when solved to convergence, and those that are too big
for this data set were kept there. Hence its lower diffusivity, and its longer tail of mu2: 2,000 converged samples made
at 128³ with prior=paper have medians of D +15%, rho -10%, T -8%, mu1 +7% and mu2 -3% beside the published ones and a
95% quantile of mu2 of 6.4 instead of 9.0, and 160 samples made with scheme=gliomasolver, its time step, have all five
medians within 11%. And the brain is another one on another grid, with the tumor's origin in all of its tissue unless
prior=paper."""
CARD, HISTOGRAMS, MOSAIC = "README.md", "parameters.png", "tumors.png"


def write_card(place: str, out: str | None = None) -> int:
    """Describe a store in a folder (default: beside it, with the ending `.card`); returns the exit code.

    Raises:
        InputError: no store or no complete row there, or the folder cannot be written.
    """
    store = open_store(place)
    rows = np.flatnonzero(store.complete)
    if not len(rows):
        raise InputError(f"{place} has no complete row to describe: generate some first")
    if out is None and is_url(place):
        raise InputError(f"the card of {place} needs a folder: add out=...")
    folder = Path(out) if out is not None else Path(place).with_suffix(".card")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_histograms(quantities(store, rows), folder / HISTOGRAMS)
        draw_mosaic(store, rows, folder / MOSAIC)
        (folder / CARD).write_text(card_text(store, rows), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the card into {folder}: {error.strerror or error}") from error
    print(f"{folder / CARD}: {len(rows)} samples described")
    return 0


def quantities(store: Store, rows: NDArray[np.intp]) -> dict[str, tuple[NDArray[np.float64], str]]:
    """What a card shows of the samples `rows`: values, float64 (rows,), and unit, by name."""
    columns = store.layout.columns
    found = {
        name: (store.parameters[name][rows], str(columns[name].attributes["units"])) for name in store.layout.scalars
    }
    for threshold in (0.1, 0.7):
        values = store.volumes[rows, VOLUME_THRESHOLDS.index(threshold)]
        found[f"volume at c >= {threshold}"] = (values, "ml")
    return found


def acceptance(store: Store, rows: NDArray[np.intp]) -> float:
    """Accepted samples per proposal drawn for them."""
    return len(rows) / float(np.sum(store.proposals[rows] + 1))


def card_text(store: Store, rows: NDArray[np.intp]) -> str:
    """The card in Markdown."""
    about, size = store.attributes, stored_bytes(store.place)
    splits = ", ".join(f"{int(np.sum(store.split[rows] == name))} {name}" for name in SPLITS)
    facts = {
        "samples": f"{len(rows)} of {len(store)} ({splits})",
        "model": f"{about['model']}, scheme {about['scheme']}, physics version {about['physics_version']}",
        "brain": f"{about['atlas']['name']}, {_shape(store)} voxels of {store.grid.spacing} mm",
        "prior": f"{about['prior']['name']}, size {about['prior']['size'][0]} to {about['prior']['size'][1]} ml",
        "seed": about["seed"],
        "accepted": f"{acceptance(store, rows):.1%} of the proposals",
        "made on": f"{about['backend']}, {about['instruction_set']}, learn-morph-infer {about['code_version']}",
        "content": f"{content(store)} (of the rows' checksums)",
        "size": f"{size / 1e9:.2f} GB, {size / 1e3 / len(rows):.0f} kB a sample",
    }
    return "\n\n".join(
        [
            f"# {Path(store.place).name}",
            "Simulated brain tumors: tumor cell densities in a brain atlas, with the parameters that grew them.",
            _table(["", ""], [[name, str(value)] for name, value in facts.items()]),
            "## Parameters",
            _table(["quantity", "unit", "of", *QUANTILES], _quantile_rows(store, rows)),
            DIFFERENCES if (about["model"], about["scheme"]) == ("fisher_kolmogorov", "converged") else "",
            f"![Histograms of the parameters]({HISTOGRAMS})",
            "## Tumors",
            f"![Example tumors]({MOSAIC})",
            "Axial slices through the origins of samples spread over all sizes, smallest first: density c over the "
            "brain's tissue, lines at c = 0.1 and 0.7.",
            "## Reading it",
            _READING.format(place=store.place),
            "## Arrays",
            _table(["array", "axes", "meaning"], _array_rows(store)),
            "## Attributes",
            f"```json\n{json.dumps(about, indent=1)}\n```\n",
        ]
    ).replace("\n\n\n", "\n")


_READING = """\
```python
import xarray

data = xarray.open_zarr("{place}", consolidated=False)
data.density[0], data.mu1[0]
```

`python -m engine.generate verify={place}` reads every row against its checksum and makes one again."""


def _quantile_rows(store: Store, rows: NDArray[np.intp]) -> list[list[str]]:
    lines = []
    for name, (values, unit) in quantities(store, rows).items():
        found = np.quantile(values, list(QUANTILES.values()))
        lines.append([name, unit, "here", *(f"{value:.3g}" for value in found)])
        if name in PUBLISHED and store.attributes["model"] == "fisher_kolmogorov":
            lines.append(["", "", "published", *(f"{value:.3g}" for value in PUBLISHED[name])])
    return lines


def _array_rows(store: Store) -> list[list[str]]:
    fields = [(name, [*f.axes, "x", "y", "z"], f.attributes) for name, f in store.layout.fields.items()]
    columns = [(name, [*c.axes], c.attributes) for name, c in store.layout.columns.items()]
    return [
        [f"`{name}`", ", ".join(["sample", *axes]), "; ".join(f"{key} {value}" for key, value in attributes.items())]
        for name, axes, attributes in fields + columns
    ]


def _shape(store: Store) -> str:
    return " x ".join(str(length) for length in store.grid.shape)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
