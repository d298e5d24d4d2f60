"""Targets: encoding is invertible, and nothing ambiguous can be built."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import InputError
from learn.dataset import refuse_far_targets
from learn.targets import QUANTITIES, Quantity, Targets

JOINT = ["mu1", "mu2", "origin_x", "origin_y", "origin_z"]


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=QUANTITIES)
def test_bounds_encode_to_minus_one_and_one(quantity: Quantity) -> None:
    np.testing.assert_allclose(quantity.encode(quantity.bounds), [-1, 1], atol=1e-12)


@given(name=st.sampled_from(sorted(QUANTITIES)), value=st.floats(1e-4, 1e4))
def test_decode_inverts_encode_also_outside_the_bounds(name: str, value: float) -> None:
    quantity = QUANTITIES[name]
    assert quantity.decode(quantity.encode(value)) == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(encoded=st.lists(st.floats(-2, 2), min_size=5, max_size=5))
def test_encode_inverts_decode_for_the_joint_set(encoded: list[float]) -> None:
    joint = Targets.named(JOINT)
    columns = joint.decode(np.array([encoded]))
    assert set(columns) == {"mu1", "mu2", "origin"}
    assert columns["origin"].shape == (1, 3)
    np.testing.assert_allclose(joint.encode(columns), [encoded], atol=1e-5)


def test_a_log_scale_costs_equal_ratios_alike() -> None:
    mu1 = QUANTITIES["mu1"]
    assert mu1.encode(8.0) - mu1.encode(4.0) == pytest.approx(mu1.encode(40.0) - mu1.encode(20.0))


def test_outputs_keep_the_given_order() -> None:
    targets = Targets.named(["origin_x", "origin_y", "origin_z", "mu2"])
    assert targets.origin_outputs == (0, 1, 2)
    assert Targets.named(["mu2"]).origin_outputs == ()
    encoded = targets.encode({"origin": np.array([[0.1, 0.9, 0.75]]), "mu2": np.array([18.0])})
    np.testing.assert_allclose(encoded, [[-1, 1, 1, 1]], atol=1e-6)


def test_a_scaling_changes_the_quantities_that_it_names() -> None:
    own = {"mu1": {"scale": "linear", "bounds": [1, 3]}, "origin_x": {"weight": 2}}
    targets = Targets.named(["mu2", "mu1", "duration"], own)
    assert targets.quantities == (QUANTITIES["mu2"], Quantity("mu1", (1.0, 3.0)), QUANTITIES["duration"])
    assert targets.encode({"mu2": np.ones(1), "mu1": np.full(1, 2.0), "duration": np.ones(1)})[0, 1] == 0


def test_metadata_round_trip() -> None:
    targets = Targets.named(JOINT)
    assert Targets.from_metadata(targets.metadata()).quantities == targets.quantities


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["mu3"], "unknown targets"),
        ([["mu1"]], "unknown targets"),
        ("mu1", "not a list"),
        (5, "not a list"),
        ([{"name": "mu1"}], "unknown targets"),
        ([], "at least one"),
        (["mu1", "mu1"], "only once"),
        (["mu1", "origin_x"], "all three axes"),
    ],
)
def test_ambiguous_sets_are_refused(names: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Targets.named(names)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("mu3", {"weight": 2}, "unknown targets"),
        ("mu1", {"bound": [1, 2]}, "give bounds, scale or weight"),
        ("mu1", 4, "give bounds, scale or weight"),
        ("mu1", {"bounds": [1, 2, 3]}, "two numbers"),
        ("mu1", {"bounds": "wide"}, "two numbers"),
        ("mu1", {"scale": "cubic"}, "linear or log"),
        ("mu1", {"weight": 0}, "weight of mu1 is 0"),
        ("mu1", {"weight": "heavy"}, "weight of mu1 is heavy"),
    ],
)
def test_scalings_that_mean_nothing_are_refused(name: str, settings: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Targets.named(["mu2"], {name: settings})


def test_missing_columns_are_named() -> None:
    with pytest.raises(InputError, match="no mu2"):
        Targets.named(["mu1", "mu2"]).encode({"mu1": np.ones(3)})


@pytest.mark.parametrize(
    ("bounds", "scale"), [((1, 1), "linear"), ((0, 1), "log"), ((1, np.inf), "log"), ((0, 1), "cubic")]
)
def test_scalings_without_inverse_are_refused(bounds: tuple[float, float], scale: str) -> None:
    with pytest.raises(InputError):
        Quantity("mu1", bounds, scale)


def test_weights_say_how_much_an_error_counts() -> None:
    targets = Targets.named(["mu1", "mu2"], {"mu1": {"weight": 3}})
    np.testing.assert_allclose(targets.weights, [1.5, 0.5])
    assert Targets.from_metadata(targets.metadata()).quantities == targets.quantities
    old = [{key: value for key, value in entry.items() if key != "weight"} for entry in targets.metadata()]
    assert Targets.from_metadata(old).weights.tolist() == [1, 1]


@pytest.mark.parametrize(("mu1", "said"), [(-1.0, "cannot show"), (4000.0, "give bounds that hold")])
def test_data_that_a_target_cannot_show_are_refused(mu1: float, said: str) -> None:
    joint = Targets.named(JOINT)
    fine = {"mu1": np.array([8.0, 9.0]), "mu2": np.array([4.0, 4.0]), "origin": np.full((2, 3), 0.5)}
    refuse_far_targets(joint, joint.encode(fine))
    with pytest.raises(InputError, match=said):
        refuse_far_targets(joint, joint.encode(fine | {"mu1": np.array([8.0, mu1])}))
