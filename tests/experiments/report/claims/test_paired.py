"""Two methods on the same runs: by medians or means, by the rows that splits share, and what few runs can tell."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from pyro_probmix.experiments.report.claims.evidence import diverged_as_worst
from pyro_probmix.experiments.report.claims.paired import Paired, of_mean
from pyro_probmix.experiments.report.claims.verdicts import LEVEL, holm
from tests.experiments.report import cases as cases

EXPERIMENTS = ("toy-regression", "ablation-regression", "uci", "table", "stocks")


def paired(experiment, metric="nll", **scores):
    """The scores of some methods, NaN for a run that diverged."""
    parts = [cases.rows((experiment, "d", "mlp", name, "fixed"), {metric: own}) for name, own in scores.items()]
    rows = diverged_as_worst(pd.concat(parts))
    return Paired(rows.pivot(index="split", columns="method", values="value"), experiment, metric)


def test_p_of_a_mean_is_students_and_splits_of_one_table_count_for_less():
    gains = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0])
    mean, error, p = of_mean(gains)
    assert mean == 3 and error == pytest.approx(gains.sem()) and p == pytest.approx(0.0132, abs=1e-4)
    _, shared, more = of_mean(gains, 1 / 9)
    assert shared == pytest.approx(gains.std() * np.sqrt(1 / 5 + 1 / 9)) and more > p
    assert of_mean(pd.Series([*gains, np.nan, np.inf])) == (mean, error, p)


@pytest.mark.parametrize("runs", [2, 3, 8])
@pytest.mark.parametrize("gain", [1.0, -0.1])
def test_differences_that_do_not_vary_tell_no_more_than_their_signs(runs, gain):
    """Nor do those that differ by rounding alone."""
    base = 3.3 * np.arange(1, runs + 1)
    for gains in (np.full(runs, gain), base + gain - base):
        assert of_mean(pd.Series(gains))[2] == 2.0 ** (1 - runs)
    assert of_mean(pd.Series(np.zeros(runs)))[2] == 1


def test_a_single_run_tells_nothing():
    mean, error, p = of_mean(pd.Series([2.0]))
    assert (mean, p) == (2, 1) and np.isnan(error)
    for experiment in EXPERIMENTS:
        found = paired(experiment, ERM=[3.0], Mix=[1.0]).difference("Mix", "ERM")
        assert (found.value, found.gain, found.p, found.side) == (-2, 2, 1, "open")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("runs", [2, 3, 4, 5])
def test_few_runs_that_all_say_the_same_by_as_much(experiment, runs):
    erm = np.arange(runs) / 8
    found = paired(experiment, ERM=erm, Mix=erm + 100).difference("Mix", "ERM")
    assert found.p >= 2.0 ** (1 - runs) and found.side == "open"


def test_toys_are_judged_by_medians_and_others_by_means():
    rng = np.random.default_rng(0)
    erm, mix = rng.normal(10, 1, (2, 60))
    mix += 3
    erm[:3] = 1e5  # the mean of ERM is far above that of Mix, its median below
    for experiment in ("toy-regression", "ablation-regression"):
        found = paired(experiment, ERM=erm, Mix=mix).difference("Mix", "ERM")
        assert found.value == pytest.approx(np.median(mix) - np.median(erm)) and found.side == "behind"
        low, high = found.interval
        assert 2 < low < found.value < high < 4 and np.isnan(found.error)
    found = paired("stocks", ERM=erm, Mix=mix).difference("Mix", "ERM")
    assert found.value == pytest.approx((mix - erm).mean()) and found.value < -1000
    assert found.error == pytest.approx(pd.Series(mix - erm).sem()) and found.interval is None


@pytest.mark.parametrize(("experiment", "shared"), [("uci", 1 / 9), ("table", 1 / 4), ("stocks", 0)])
def test_splits_of_one_table_are_fewer_than_seeds(experiment, shared):
    gaps = np.tile([0.5, 1.5, -0.5, 0.9], 5)
    found = paired(experiment, ERM=np.zeros(20), Mix=gaps).difference("Mix", "ERM")
    error = gaps.std(ddof=1) * (1 / 20 + shared) ** 0.5
    assert (found.value, found.error) == (pytest.approx(gaps.mean()), pytest.approx(error))
    assert found.p == pytest.approx(2 * student.sf(found.value / error, 19))
    assert found.side == ("open" if shared else "behind")


def test_better_is_lower_but_for_accuracies():
    scores = {"ERM": np.zeros(9), "Mix": np.linspace(0.5, 0.6, 9)}
    for experiment in EXPERIMENTS:
        assert paired(experiment, **scores).difference("Mix", "ERM").side == "behind"
        found = paired(experiment, "accuracy", **scores).difference("Mix", "ERM")
        assert found.side == "ahead" and found.value == found.gain > 0


def test_a_run_that_diverged_is_the_worst_of_medians_and_in_no_mean():
    erm = 10 + np.random.default_rng(0).normal(size=20)
    mix = erm - 5 + 0.01 * np.arange(20)
    mix[:2] = np.nan
    found = paired("uci", ERM=erm, Mix=mix).difference("Mix", "ERM")
    assert (found.runs, found.of) == (18, 20) and found.value == pytest.approx(np.nanmean(mix - erm))
    toy = paired("toy-regression", ERM=erm, Mix=mix).difference("Mix", "ERM")
    assert (toy.runs, toy.of) == (20, 20)
    assert toy.value == pytest.approx(np.median(np.nan_to_num(mix, nan=np.inf)) - np.median(erm))
    mix[:15] = np.nan
    toy = paired("toy-regression", ERM=erm, Mix=mix).difference("Mix", "ERM")
    assert toy.value == np.inf and toy.side == "behind"
    for experiment, value in (("uci", np.nan), ("toy-regression", 0)):
        none = np.full(20, np.nan)
        found = paired(experiment, ERM=none, Mix=none).difference("Mix", "ERM")
        assert found.value == pytest.approx(value, nan_ok=True) and (found.p, found.side) == (1, "open")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_run_that_only_one_method_has_is_not_compared(experiment):
    rng = np.random.default_rng(0)
    scores = paired(experiment, ERM=rng.normal(size=30), Mix=rng.normal(size=30))
    part = scores.scores.copy()
    part.loc[10:, "Mix"] = np.nan
    both = Paired(part, experiment, "nll").difference("Mix", "ERM")
    assert both is not None and both.of == 10
    assert both == Paired(scores.scores[:10], experiment, "nll").difference("Mix", "ERM")
    part.loc[:9, "ERM"] = np.nan
    assert Paired(part, experiment, "nll").difference("Mix", "ERM") is None
    assert scores.difference("ProbMix", "ERM") is None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_equal_methods_are_hardly_ever_called_different(experiment):
    """No more often than at 5 %, within three standard errors, by runs that share nothing."""
    rng, wrong, trials = np.random.default_rng(0), 0, 100
    for _ in range(trials):
        scores = pd.DataFrame(rng.normal(size=(6, 2)), columns=["ERM", "Mix"])
        found = Paired(scores, experiment, "nll").difference("Mix", "ERM")
        wrong += found is not None and found.side != "open"
    assert wrong <= trials * LEVEL + 3 * (trials * LEVEL * (1 - LEVEL)) ** 0.5


def test_holms_procedure_stops_at_the_first_p_that_is_too_large():
    assert holm([0.04, 0.01, 0.02]).tolist() == [True, True, True]
    assert holm([0.03, 0.02, 0.001, 0.026]).tolist() == [False, False, True, False]
    assert holm([0.04, 0.02, 0.03]).tolist() == [False, False, False]
    assert holm([]).tolist() == []
