"""What ArviZ makes of one response, and of one predictive draw for each draw of the parameters, on either of its lines."""

from importlib import import_module
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from pyro_probmix.calibration import Predictions, to_arviz
from tests.calibration.arviz import cases

arviz: Any = import_module("arviz")  # whose lines have other functions
ONE = int(arviz.__version__.split(".")[0]) >= 1
ROWS, MEMBERS = 60, 1000
X = np.random.default_rng(0).normal(size=ROWS)
Y = X + np.random.default_rng(1).normal(size=ROWS)


def predictions(draws=5, **more):
    """A thousand members that hardly differ around the true model: leaving a row out changes next to nothing."""
    rng = np.random.default_rng(2)
    mean = (1 + 0.01 * rng.normal(size=(MEMBERS, 1, 1))) * X
    log_likelihood = stats.norm.logpdf(Y, mean, 1.0)
    drawn = mean + rng.normal(size=(MEMBERS, draws, ROWS))
    return Predictions(y=Y, draws=drawn, log_likelihood=log_likelihood, targets=["speed"], **more)


def test_the_pit_of_left_out_rows_is_that_of_the_true_model():
    """With a standard error of 0.016 in each row, by a thousand draws: within four of them."""
    data = to_arviz(predictions(), target="speed", paired=True)
    assert dict(data["posterior_predictive"].sizes) == {"chain": MEMBERS, "draw": 1, "row": ROWS}
    pit = arviz.loo_pit(data)["y"].values if ONE else arviz.loo_pit(data, y="y", y_hat="y")
    error = np.sqrt(stats.norm.cdf(Y - X) * stats.norm.sf(Y - X) / MEMBERS)
    assert (abs(pit - stats.norm.cdf(Y - X)) < 4 * error + 0.002).all()


def test_figures_of_the_pit_and_of_left_out_rows():
    whole, paired = to_arviz(predictions(), target="speed"), to_arviz(predictions(), target="speed", paired=True)
    before = set(plt.get_fignums())
    if ONE:
        arviz.plot_ppc_pit(whole)
        arviz.plot_loo_pit(paired)
    else:
        assert not hasattr(arviz, "plot_ppc_pit")  # as docs/calibration.md says
        arviz.plot_loo_pit(paired, y="y", y_hat="y")
    assert set(plt.get_fignums()) - before
    plt.close("all")


def test_scores_of_left_out_rows_are_those_of_the_true_model():
    data = to_arviz(predictions(), target="speed", paired=True)
    if not ONE:
        assert not hasattr(arviz, "loo_score") and not hasattr(arviz, "loo_influence")  # as docs/calibration.md says
        return
    z = Y - X
    crps = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    score = arviz.loo_score(data, kind="crps")
    assert abs(-score.mean - crps.mean()) < 0.03  # of draws, which all rows share in part
    shifts = arviz.loo_influence(data)[0]["y"].values
    assert shifts.shape == (ROWS,) and (abs(shifts) < 0.05).all()


def test_calibrated_classes_have_figures_of_their_levels():
    case = cases.classes(2)
    like: dict[str, Any] = {
        "y": case.y,
        "draws": case.draws,
        "kind": "class",
        "classes": ["no", "yes"],
        "probabilities": case.probabilities,
    }
    data = to_arviz(Predictions(**like, x=np.arange(60.0)[:, None], features=["day"]), target="y0")
    if not ONE:
        assert not hasattr(arviz, "plot_ppc_pava")
        return
    before = set(plt.get_fignums())
    arviz.plot_ppc_pava(data)
    arviz.plot_ppc_pava_residuals(data, data["constant_data"]["x"].sel(feature="day", drop=True))
    assert len(set(plt.get_fignums()) - before) == 2
    plt.close("all")


def test_draws_that_are_paired_already_stay():
    like: dict[str, Any] = {"y": Y, "draws": np.zeros((4, 10, ROWS)), "targets": ["speed"]}
    data = to_arviz(Predictions(**like, log_likelihood=np.zeros((4, 10, ROWS))), paired=True)
    assert dict(data["posterior_predictive"].sizes) == {"chain": 4, "draw": 10, "row": ROWS, "target": 1}
    with pytest.raises(ValueError, match=r"10 predictive draws and 3 log-likelihoods of each member.*expected.*Try"):
        to_arviz(Predictions(**like, log_likelihood=np.zeros((4, 3, ROWS))), paired=True)
    with pytest.raises(ValueError, match=r"10 predictive draws and 0 log-likelihoods.*Try"):
        to_arviz(Predictions(**like), paired=True)


def test_a_target_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"target is 'load', expected one of 'speed'.*Try target='speed'"):
        to_arviz(predictions(), target="load")
