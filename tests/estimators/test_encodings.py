"""Periodic features of one half of an ensemble's members, and piecewise linear codes of the other."""

from typing import Any

import numpy as np
import pytest
import torch

from pyro_probmix import ProbMixClassifier, ProbMixRegressor, load
from pyro_probmix.estimators.ensemble.encodings import Encodings, bins
from pyro_probmix.estimators.ensemble.healing import heal
from pyro_probmix.models import PeriodicFeatures

TINY: dict[str, Any] = {"widths": (8, 8), "periodic": 3, "epochs": 2, "random_state": 0}
RNG = np.random.default_rng(3)
ONES = np.ones(400)


def first_layer(model: Any) -> Any:
    return model.state_.density.encoder[0]


def test_bins_hold_equal_shares_of_the_rows() -> None:
    x = np.exp(RNG.normal(size=(400, 2)))
    low, high = bins(x, ONES, 5)
    np.testing.assert_array_equal(low[1:], high[:-1])
    np.testing.assert_array_equal((low[0], high[-1]), (x.min(0), x.max(0)))
    for j in range(2):
        inside = [((x[:, j] > a) & (x[:, j] <= b)).sum() for a, b in zip(low[:, j], high[:, j], strict=True)]
        assert min(inside) >= 79 and sum(inside) == 399  # the least value is an end itself


def test_weights_are_numbers_of_rows_and_their_order_is_nothing() -> None:
    x, times = RNG.normal(size=(60, 3)).round(2), RNG.integers(1, 6, 60)
    wanted = bins(np.repeat(x, times, 0), np.ones(times.sum()), 4)
    np.testing.assert_array_equal(bins(x, times / times.mean(), 4), wanted)
    np.testing.assert_array_equal(bins(x[::-1], times[::-1].astype(float), 4), wanted)


def test_few_values_have_an_edge_each_and_values_that_recur_leave_no_bin_empty() -> None:
    few = np.array([1.0, 2.0, 5.0])[RNG.integers(0, 3, 400)]
    mostly_zero = np.where(np.arange(400) < 300, 0.0, np.arange(400))
    low, high = bins(np.stack([few, mostly_zero, np.full(400, 7.0)], 1), ONES, 4)
    assert low[:, 0].tolist() == [1, 2, 1, 1] and high[:, 0].tolist() == [2, 5, 5, 5]
    assert (low[:, 1] < high[:, 1]).all() and (low[1:, 1] == high[:-1, 1]).all()
    assert (low[:, 2] == 7).all() and (high[:, 2] == 7).all()


def test_codes_are_piecewise_linear_and_waves_are_cosines() -> None:
    layer = Encodings(2, 3, 4).double()
    edges = np.array([[[-1.0, 0.0], [0.0, 0.5], [2.0, 0.5]], [[0.0, 0.5], [2.0, 0.5], [3.0, 2.0]]])
    layer.learn(edges)
    x = torch.as_tensor(RNG.normal(size=(50, 2)) * 3)
    found = layer(x).detach()
    assert found.shape == (4, 50, 8)
    coded = layer.coded.flatten().tolist()
    assert coded == [True, True, False, False]
    for r in range(4):
        np.testing.assert_array_equal(found[r, :, :2], x)
        for j in range(2):
            for k in range(3):
                low, high = edges[:, k, j]
                if coded[r]:
                    wanted = np.interp(x[:, j].numpy(), (low, max(high, low + 1e-4)), (-1, 1))
                else:
                    wanted = torch.cos(layer.frequency[r, 0, j, k] * x[:, j] + layer.phase[r, 0, j, k]).detach()
                np.testing.assert_allclose(found[r, :, 2 + 3 * j + k], wanted, atol=1e-9)


@pytest.mark.parametrize("members", [1, 2, 3, 5, 10, 13])
def test_half_of_the_members_have_codes_and_most_that_hold_out_the_same_rows_are_of_one_kind(members: int) -> None:
    coded = Encodings(1, 1, members).coded.flatten()
    assert int(coded.sum()) == members // 2
    assert sum(len(set(coded[share::5].tolist())) > 1 for share in range(5)) <= 1


def test_a_copy_of_a_member_has_its_kind() -> None:
    x = RNG.normal(size=(80, 2))
    model = ProbMixRegressor(ensemble=4, **TINY).fit(x, x[:, 0])
    density = model.state_.density
    first, last = density.encoder(torch.as_tensor(x))[[0, 3]]
    losses = torch.tensor([9.0, 1.0, 1.0, 0.0])
    assert heal(density, losses).tolist() == [False, True, True, True]
    healed = density.encoder(torch.as_tensor(x))
    assert torch.equal(healed[0], last) and torch.equal(healed[3], last) and not torch.equal(first, last)


def test_kinds_and_bins_are_saved_and_one_member_has_waves(tmp_path: Any) -> None:
    x = RNG.normal(size=(80, 2))
    model = ProbMixRegressor(ensemble=3, **TINY).fit(x, x[:, 0])
    model.save(tmp_path / "model")
    again, mine = (first_layer(found) for found in (load(tmp_path / "model"), model))
    for name in ("coded", "slope", "offset"):
        assert torch.equal(getattr(again, name), getattr(mine, name))
    assert bool((mine.slope > 0).all())
    assert not isinstance(first_layer(ProbMixRegressor(ensemble=1, **TINY).fit(x, x[:, 0])), Encodings)


@pytest.mark.parametrize("likelihood", ["categorical", "bernoulli"])
def test_members_for_classes_have_waves_alone(likelihood: str) -> None:
    x = RNG.normal(size=(80, 2))
    model = ProbMixClassifier(ensemble=3, likelihood=likelihood, **TINY).fit(x, x[:, 0] > 0)
    encoder: Any = model.state_.density.encoder
    assert type(encoder[0]) is PeriodicFeatures
