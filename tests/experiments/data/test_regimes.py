"""Tables made harder: which rows, which noise, which test rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_probmix.experiments.config import EXPERIMENTS
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.data.problem import load_problem
from pyro_probmix.experiments.data.regimes import fewer_rows, noisy, shifted
from pyro_probmix.experiments.data.tables import Split

SPLIT = Split(np.arange(0, 64), np.arange(64, 80), np.arange(80, 100))
TABLE = replace(EXPERIMENTS["table"], splits=(0, 1), methods=("ERM",))


def test_fewer_rows_are_of_those_that_do_not_test_and_nested():
    few, more = (fewer_rows(SPLIT, rows, seed=3) for rows in (20, 40))
    assert (len(few.train), len(few.validation)) == (16, 4) and not set(few.train) & set(few.validation)
    own, wider = ({*one.train, *one.validation} for one in (few, more))
    assert own < wider <= set(range(80)) and np.array_equal(few.test, SPLIT.test)
    assert {*fewer_rows(SPLIT, 20, seed=4).train} != {*few.train}
    with pytest.raises(ValueError, match=r"at most the 80.*Try"):
        fewer_rows(SPLIT, 81, seed=0)


def test_the_noise_has_its_scale():
    y = np.zeros((20_000, 2))
    normal = noisy(y, np.array([1.0, 10.0]), 0.5, None, seed=0)
    assert normal.std(0) == pytest.approx([0.5, 5.0], rel=4 / (2 * 20_000) ** 0.5)  # four standard errors
    heavy = noisy(y, np.array([1.0, 1.0]), 0.5, 2.0, seed=0)
    assert np.median(np.abs(heavy)) == pytest.approx(0.5 * 0.8165, rel=0.03)  # the upper quartile of t with 2
    assert (np.abs(heavy) > 5).mean() == pytest.approx(0.0099, abs=0.0025)  # P(|t| > 10)


def test_the_test_rows_of_a_shift_lie_beyond_the_others():
    rng = np.random.default_rng(0)
    along = rng.normal(size=200)
    x = np.stack([along, 2 * along + 0.01 * rng.normal(size=200), rng.normal(size=200)], 1)
    split = shifted(x, seed=0)
    rest = np.concatenate([split.train, split.validation])
    assert len(split.test) == 20 and len(rest) == 80 and len({*rest, *split.test}) == 100
    assert along[split.test].min() > along[rest].max() - 0.2


def test_the_splits_of_a_shift_differ_and_are_the_same_again():
    x = np.random.default_rng(0).normal(size=(400, 3))
    splits = [shifted(x, seed) for seed in range(20)]
    shares = [len({*one.test} & {*two.test}) / 40 for one in splits for two in splits if one is not two]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.06)
    for one, two in zip(splits, [shifted(x, seed) for seed in range(20)], strict=True):
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(one, part), getattr(two, part))


def test_the_end_of_a_shift_does_not_hang_on_the_sign_of_a_decomposition(monkeypatch):
    x = np.random.default_rng(0).normal(size=(60, 3)) @ np.diag([1.0, 2.0, 3.0])
    found, plain = shifted(x, seed=0), np.linalg.svd

    def turned(*arguments, **options):
        u, s, v = plain(*arguments, **options)
        return -u, s, -v

    monkeypatch.setattr(np.linalg, "svd", turned)
    np.testing.assert_array_equal(shifted(x, seed=0).test, found.test)


def test_the_smallest_table_can_be_shifted():
    split = shifted(np.arange(4.0)[:, None], seed=0)
    assert (len(split.train), len(split.validation), list(split.test)) == (2, 1, [3])


def test_a_problem_has_the_changes_and_its_test_rows_no_noise():
    plain, noise = load_problem(TABLE), load_problem(replace(TABLE, labelled_rows=50, label_noise=1.0, noise_df=3.0))
    assert noise.train.x.shape[1] == 40 and noise.validation.x.shape[1] == 10
    in_units = [one.test.y * one.scale + one.loc for one in (plain, noise)]
    torch.testing.assert_close(in_units[0], in_units[1])
    again = load_problem(replace(TABLE, labelled_rows=50))
    torch.testing.assert_close(noise.train.x, again.train.x)
    gap = (noise.train.y * noise.scale + noise.loc) - (again.train.y * again.scale + again.loc)
    assert bool((gap.abs() > 0.01).float().mean() > 0.95)
    beyond = load_problem(replace(TABLE, shift=True))
    assert beyond.test.x.shape[1] == round(0.2 * 221) and not torch.equal(*beyond.test.x)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labelled_rows": 5}, "labelled_rows"),
        ({"label_noise": -1.0}, "label_noise"),
        ({"noise_df": 0.0}, "noise_df"),
        ({"noise_df": 3.0}, "noise_df is 3.0 without label_noise"),
        ({"experiment": "toy-regression", "dataset": "toy-regression", "shift": True}, "shift"),
    ],
)
def test_what_is_no_regime_is_refused(change, told):
    with pytest.raises(ValueError, match=f"{told}.*Try"):
        check_config(replace(TABLE, **change))


@pytest.mark.parametrize("task", [None, "classification"])
def test_classes_have_fewer_rows_and_shifts_and_no_noise(task):
    """Whether the table says that it is of classes or the configuration, too."""
    iris = replace(TABLE, dataset="iris", task=task, splits=(0,))
    harder = replace(iris, labelled_rows=50, shift=True)
    for config in (replace(harder, shift=False), harder):
        check_config(config)
    assert load_problem(harder).train.x.shape[1] == 40
    with pytest.raises(ValueError, match=r"label_noise is 0.5 for the classes of iris, expected .* regression. Try"):
        noisy_classes = replace(iris, label_noise=0.5)
        check_config(noisy_classes)
        load_problem(noisy_classes)
