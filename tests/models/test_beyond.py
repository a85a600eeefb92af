"""The methods beyond the paper's and ensembles of any: what their names stand for, and that each trains as it should."""

from dataclasses import replace
from typing import Any

import pyro
import pytest
import torch

from pyro_probmix import METHODS, ExpectedLogLikelihood, ProbMix, fit
from pyro_probmix.experiments.config import EXPERIMENTS, Config
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.config.grid import Candidate, candidates
from pyro_probmix.experiments.data.problem import load_problem
from pyro_probmix.experiments.run.jobs import list_jobs, run_job
from pyro_probmix.experiments.run.runner import fit_method, resolve
from pyro_probmix.inference.step import compiled, programs
from pyro_probmix.models import BEYOND, LIKELIHOODS, StudentT, build_density, find_method, initialise
from tests.inference.test_training import data

CONFIG = replace(EXPERIMENTS["toy-regression"], splits=(0, 1), epochs=2, widths=(8, 4), batch_size=32, num_samples=3)


@pytest.fixture(scope="module")
def problem():
    return load_problem(CONFIG)


def test_names_do_not_meet():
    assert not set(METHODS) & set(BEYOND)
    assert len(METHODS) == 11
    methods = [*METHODS.values(), *BEYOND.values()]
    assert len(set(methods)) == len(methods)  # no method twice
    assert all(method.likelihood is None or method.likelihood in LIKELIHOODS for method in methods)


def test_an_ensemble_of_any_method_by_its_name():
    assert find_method("5xM-ProbMix*") == replace(METHODS["M-ProbMix*"], members=5)
    assert find_method("12x4-ProbMix") == replace(BEYOND["4-ProbMix"], members=12)
    for name in ("0xERM", "5x", "5xSuperMix", "5x5xERM", "x", "SuperMix"):
        with pytest.raises(
            ValueError, match=r"unknown method .*RegMixup.*or an ensemble of one. Try 'ERM', or '5xERM'"
        ):
            find_method(name)
    with pytest.raises(ValueError, match="unknown method"):
        check_config(replace(CONFIG, methods=("ERM", "5xSuperMix")))


#: One of each kind; the others differ in a graph or a site.
KINDS = (
    "C-Mixup", "RegM-ProbMix", "Loc4M-ProbMix", "LinM-ProbMix", "M-ProbMix-beta", "ProbMix-hom", "LinProbMix-t",
    "M-ProbMix-log", "MixupMP",
)  # fmt: skip
CASES = [pytest.param(name, marks=[] if name in KINDS else [pytest.mark.slow]) for name in BEYOND]


@pytest.mark.parametrize("name", CASES)
def test_each_trains_and_its_traced_step_is_the_eager_one(name, problem, monkeypatch):
    config = resolve(CONFIG, problem)
    method = find_method(name)
    fits = []
    for traced in (False, True):
        monkeypatch.setattr(compiled, "repays", lambda *arguments, traced=traced: traced)
        monkeypatch.setattr(programs, "_compile", lambda graph, varying: graph.module)
        torch.manual_seed(0)
        fits.append(fit_method(method, config, problem, candidates(config, method), seed=1))
    eager, again = fits
    assert bool(eager.fit.train_loss.isfinite().all()) and bool(eager.fit.validation_nll.isfinite().all())
    assert torch.equal(eager.fit.train_loss, again.fit.train_loss)
    for key, value in eager.density.state_dict().items():
        assert torch.equal(value, again.density.state_dict()[key]), key


@pytest.mark.parametrize(
    "name", ["RegMixup", "RegM-ProbMix", "4-ProbMix", "4M-ProbMix", "LinM-ProbMix", "LinProbMix-t"]
)
def test_replicas_never_touch(name):
    """What one replica is given, even NaN, changes no gradient of the others."""
    x, y = data()
    gradients = []
    for ill in (False, True):
        method = BEYOND[name]
        likelihood = LIKELIHOODS[method.likelihood or "gaussian"]
        density = build_density(method, num_features=2, likelihood=likelihood, widths=(8, 4), replicas=3)
        initialise(density, range(3))
        model = ProbMix(
            density,
            at=method.site,
            pool=method.pool,
            num_fused=method.num_fused,
            add_unfused_rows=method.add_unfused_rows,
            batch_size=8,
            alpha=0.5,
        )
        given = y.clone()
        if ill:
            given[1] = torch.nan
        torch.manual_seed(3)
        with pyro.validation_enabled(False):
            terms = ExpectedLogLikelihood().terms(model, model.guide, x, given, torch.arange(8).expand(3, 8))
            torch.stack([-term.sum() for term in terms]).sum().backward()
        gradients.append([p.grad for p in density.parameters()])
    for healthy, own in zip(*gradients, strict=True):
        assert healthy is not None and own is not None
        assert torch.equal(healthy[::2], own[::2]) and bool(healthy[::2].isfinite().all())


def test_a_students_t_pool_without_a_closed_form_is_trained_too():
    """Normalised numerically; where the two rows have one density the pool is that, as where equal inputs are mixed."""
    x, y = (values[:1, :8].double() for values in data())
    fits = []
    for at in ("x", "y"):
        density = build_density(METHODS["ProbMix"], num_features=2, likelihood=StudentT, widths=(4,), replicas=1)
        initialise(density, [0])
        density.double()
        model = ProbMix(density, at=at, batch_size=4).double()
        same = x[:, :1].expand(1, 8, 2)
        fits.append(fit(model, same, y, epochs=1, learning_rate=0.01).train_loss)
    torch.testing.assert_close(*fits, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(600)  # a large graph
def test_a_students_t_pool_compiles():
    x, y = (values[:1, :8] for values in data())
    density = build_density(METHODS["ProbMix"], num_features=2, likelihood=StudentT, widths=(4,), replicas=1)
    assert bool(fit(ProbMix(density, at="y", batch_size=8), x, y, epochs=2, compile=True).train_loss.isfinite().all())


# Ensembles


def ensemble_job(name: str, config: Config = CONFIG):
    (job,) = list_jobs(replace(config, methods=(name,)))
    return job


def test_members_are_networks_of_their_own_and_the_first_one_starts_as_a_single_one(problem):
    config = replace(resolve(CONFIG, problem), epochs=1, learning_rate=1e-30)
    single = fit_method(METHODS["ERM"], config, problem, candidates(config, METHODS["ERM"]), seed=0).density
    three = fit_method(find_method("3xERM"), config, problem, candidates(config, METHODS["ERM"]), seed=0).density
    for p, own in zip(three.parameters(), single.parameters(), strict=True):
        assert p.shape[0] == 6
        torch.testing.assert_close(p[::3], own)
        assert len(p.detach().flatten(1)[:, 0].unique()) == 6


def test_a_job_of_an_ensemble_leaves_one_number_a_split():
    job = ensemble_job("3xM-ProbMix")
    done = run_job(job, torch.device("cpu"))
    (scored,) = done.scored
    for metric in ("nll", "rmse", "nll (plug-in)", "validation nll", "best epoch"):
        assert len(scored.values[metric]) == 2, metric
    assert len(scored.calibration) == 2 and {split for split, *_ in scored.curves} == {0, 1}
    assert all(tensor.shape[0] == 6 for tensor in done.weights.values())
    assert sum(scored.calibration[0].count) == job.problem.test.y.shape[1]


def test_an_ensemble_is_chosen_by_its_own_validation_nll():
    config = replace(CONFIG, setting="chosen", alphas=(0.1, 1.0), betas=(0.0,))
    done = run_job(ensemble_job("2xMix", config), torch.device("cpu"))
    (scored,) = done.scored
    tried = {one: torch.tensor(scored.values[f"validation nll, alpha={one:g} beta=0"]).mean() for one in (0.1, 1.0)}
    assert scored.values["alpha"][0] == pytest.approx(min(tried, key=lambda alpha: float(tried[alpha])))
    assert torch.tensor(scored.values["validation nll"]).mean() == min(tried.values())
    assert all(tensor.shape[0] == 4 for tensor in done.weights.values())


# The settings


def test_a_method_is_tried_around_its_own_alpha():
    chosen = replace(CONFIG, setting="chosen")
    assert candidates(CONFIG, BEYOND["RegMixup"]) == (Candidate(10.0, 0.0),)
    assert [one.alpha for one in candidates(chosen, BEYOND["RegMixup"])[:3]] == pytest.approx([1.0, 10.0, 100.0])
    assert [one.alpha for one in candidates(chosen, BEYOND["4-ProbMix"])[:3]] == [0.01, 0.1, 1.0]
    assert len(candidates(chosen, METHODS["ERM"])) == len(candidates(chosen, BEYOND["C-Mixup"])) == 9
    grid = replace(CONFIG, setting="grid")
    assert [one.alpha for one in candidates(grid, BEYOND["RegMixup"])[:3]] == [0.01, 0.1, 1.0]


CLASSES = replace(CONFIG, experiment="toy-classification", dataset="toy-classification")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (replace(CLASSES, methods=("ERM-t",)), r"'student-t' was asked for classes, expected a regression.*Try"),
        (replace(CLASSES, methods=("ProbMix-beta",)), r"'beta-nll' was asked for classes.*Try"),
        (replace(CLASSES, methods=("ERM",), criterion="beta-nll"), r"'beta-nll' was asked for classes.*Try"),
        (replace(CLASSES, methods=("C-Mixup",)), r"'label-kernel' was asked for classes.*Try"),
        (
            replace(CONFIG, methods=("4-ProbMix",), batch_size=30),
            r"batch_size is 30, expected a multiple of the 4 rows .* Try batch_size 28",
        ),
    ],
)
def test_methods_that_do_not_fit_the_data_are_refused_before_anything_runs(config: Any, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        list_jobs(config)
