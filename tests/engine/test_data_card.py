"""The data card says what is in the store, and its pictures show it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from engine import InputError
from engine.data_card import PUBLISHED, QUANTILES, acceptance, write_card
from engine.store import create_store
from tests.engine.makers import about, generate


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("stores") / "tumors.zarr", 14)


@pytest.fixture(scope="module")
def card(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    assert write_card(store.place, str(folder)) == 0
    return folder


def rows_of(text):
    return [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line.startswith("|")
    ]


def test_the_quantiles_are_those_of_the_store_beside_the_published_ones(store, card):
    lines = rows_of((card / "README.md").read_text())
    for name in ("mu1", "mu2", "diffusivity", "proliferation", "duration"):
        at = next(i for i, line in enumerate(lines) if line[0] == name and "here" in line)
        ours, published = ([float(v) for v in line[-5:]] for line in lines[at : at + 2])
        np.testing.assert_allclose(ours, np.quantile(store.parameters[name], list(QUANTILES.values())), rtol=0.01)
        np.testing.assert_allclose(published, PUBLISHED[name], rtol=0.01)


def test_the_share_of_accepted_proposals_counts_every_draw(store, card):
    share = acceptance(store, np.arange(len(store)))
    assert share == pytest.approx(len(store) / (store.proposals + 1).sum())
    assert f"{share:.1%} of the proposals" in (card / "README.md").read_text()


def test_every_array_is_explained_and_every_picture_is_there(store, card):
    text = (card / "README.md").read_text()
    for name in (*store.layout.fields, *store.layout.columns):
        assert f"`{name}`" in text
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        pixels = image.imread(card / picture)[..., :3]
        assert pixels.std() > 0.05, f"{picture} shows nothing"


def test_the_published_numbers_are_consistent_with_their_own_definitions():
    """mu1² = D T and mu2² = rho T hold for every sample, so between the smallest and the largest products."""
    for name, rate in (("mu1", "diffusivity"), ("mu2", "proliferation")):
        low, high = (np.sqrt(PUBLISHED[rate][i] * PUBLISHED["duration"][i]) for i in (0, -1))
        assert low <= PUBLISHED[name][0] <= PUBLISHED[name][-1] <= high
    assert all(sorted(values) == list(values) for values in PUBLISHED.values())


def test_a_card_is_beside_its_store_unless_told_otherwise(store):
    assert write_card(store.place) == 0
    assert Path(store.place).with_suffix(".card").joinpath("README.md").exists()


def test_what_cannot_be_described_is_one_sentence(tmp_path, store):
    create_store(tmp_path / "empty.zarr", 4, about())
    with pytest.raises(InputError, match="no complete row"):
        write_card(str(tmp_path / "empty.zarr"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write the card"):
        write_card(store.place, str(tmp_path / "file"))
