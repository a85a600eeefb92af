"""Scores of ensembles: of the mixture over the members of each split, against predictions of each split alone."""

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from pyro_probmix import METHODS, predict
from pyro_probmix.calibration import crps_draws
from pyro_probmix.experiments.config import EXPERIMENTS
from pyro_probmix.experiments.data.problem import Part, load_problem
from pyro_probmix.experiments.run.measures import measure, validation_nll
from pyro_probmix.experiments.run.runner import select_replicas
from pyro_probmix.inference import PredictiveMixture
from pyro_probmix.models import Categorical, Gaussian, build_density, initialise

SPLITS, MEMBERS = 3, 4


def trained(name, experiment, members=MEMBERS):
    """An untrained density serves: its replicas differ."""
    problem = load_problem(EXPERIMENTS[experiment]).replicas([0, 1, 2])
    problem = replace(problem, test=Part(problem.test.x[:, :200], problem.test.y[:, :200]))
    make = {
        "num_features": problem.train.x.shape[-1],
        "likelihood": Categorical if problem.classes else Gaussian,
        "num_outputs": problem.num_outputs,
        "widths": (16, 8),
    }
    density = build_density(METHODS[name], **make, replicas=SPLITS * members)  # type: ignore[arg-type] # of several types
    initialise(density, range(SPLITS * members))
    density.requires_grad_(False)

    def of_split(split):
        empty = build_density(METHODS[name], **make, replicas=members)  # type: ignore[arg-type] # of several types
        return select_replicas(density, empty, range(split * members, (split + 1) * members)).requires_grad_(False)

    return problem, density, of_split


@pytest.mark.parametrize("name", ["ERM", "M-ProbMix"])
def test_regression(name):
    """The ensemble of each split by ``predict(ensemble=True)``, one after the other."""
    problem, density, of_split = trained(name, "toy-regression")
    values, calibration = measure(density, problem, num_samples=100, seed=0, members=MEMBERS)
    tolerance = 1e-5 if name == "ERM" else 0.1  # the draws of the embedding differ
    for split in range(SPLITS):
        x, y = problem.test.x[split], problem.test.y[split]
        mixture = predict(
            of_split(split), x.expand(MEMBERS, -1, -1), num_samples=100, ensemble=True,
            loc=problem.loc[split], scale=problem.scale[split],
        )  # fmt: skip
        target = problem.loc[split] + problem.scale[split] * y
        nll = -mixture.log_prob(target).mean()
        assert values["nll"][split] == pytest.approx(float(nll), abs=tolerance * 3)
        rmse = (mixture.mean - target).square().mean().sqrt()
        assert values["rmse"][split] == pytest.approx(float(rmse), rel=tolerance)
        sharpness = mixture.variance.mean().sqrt()
        assert values["sharpness"][split] == pytest.approx(float(sharpness), rel=tolerance)
        crps = crps_draws(mixture.sample((2000,)).numpy(), target.numpy()).mean()
        assert values["crps"][split] == pytest.approx(crps, rel=max(tolerance, 0.02))
        levels = mixture.cdf(target).flatten()
        counts = torch.histc(levels, bins=100, min=0.0, max=1.0)
        assert abs(torch.tensor(calibration[split].count).cumsum(0) - counts.cumsum(0)).max() <= (
            2 if name == "ERM" else 60
        )
    assert ("nll (plug-in)" in values) == (name == "M-ProbMix")


def test_classes():
    problem, density, of_split = trained("ERM", "toy-classification")
    values, calibration = measure(density, problem, num_samples=1, seed=0, members=MEMBERS)
    for split in range(SPLITS):
        x, y = problem.test.x[split], problem.test.y[split]
        mixture = predict(of_split(split), x.expand(MEMBERS, -1, -1), ensemble=True)
        assert values["nll"][split] == pytest.approx(-float(mixture.log_prob(y).mean()), abs=1e-5)
        right = mixture.probs.argmax(-1) == y
        assert values["accuracy"][split] == pytest.approx(float(right.float().mean()), abs=1e-6)
        assert sum(calibration[split].correct) == int(right.sum())


def test_the_mixture_is_of_densities_not_of_logarithms():
    """Jensen: its NLL is below the members' mean NLL, its RMSE below the root of their mean square."""
    problem, density, _ = trained("ERM", "toy-regression")
    alone = problem.replicas([split for split in range(SPLITS) for _ in range(MEMBERS)])
    each, _ = measure(density, alone, num_samples=1, seed=0)
    together, _ = measure(density, problem, num_samples=1, seed=0, members=MEMBERS)
    for split in range(SPLITS):
        own = slice(split * MEMBERS, (split + 1) * MEMBERS)
        assert together["nll"][split] < sum(each["nll"][own]) / MEMBERS
        assert together["rmse"][split] < math.sqrt(sum(v**2 for v in each["rmse"][own]) / MEMBERS)


def test_one_member_is_the_density_itself():
    problem, density, of_split = trained("M-ProbMix", "toy-regression", members=1)
    values, _ = measure(density, problem, num_samples=5, seed=2)
    torch.manual_seed(2)
    mixture = predict(density, problem.test.x, num_samples=5)
    assert isinstance(mixture, PredictiveMixture)
    nll = -mixture.log_prob(problem.test.y).mean(-1) + problem.scale.log()[:, 0, 0]
    torch.testing.assert_close(torch.tensor(values["nll"]), nll.detach())
    assert of_split(0).replicas == 1


def test_a_member_without_finite_weights_spoils_its_split_alone():
    problem, density, _ = trained("ERM", "toy-regression")
    healthy, _ = measure(density, problem, num_samples=1, seed=0, members=MEMBERS)
    ill = copy.deepcopy(density)
    with torch.no_grad():
        for p in ill.parameters():
            p[MEMBERS + 1] = torch.nan
    values, _ = measure(ill, problem, num_samples=1, seed=0, members=MEMBERS)
    assert math.isnan(values["nll"][1])
    assert values["nll"][::2] == healthy["nll"][::2]


def test_a_scale_that_has_underflowed_has_the_worst_nll_and_leaves_the_other_splits_alone():
    """With exp(r / 2) and no floor a scale may be 0: such a split has no finite NLL, and the job ends as any other."""
    problem = load_problem(EXPERIMENTS["toy-regression"]).replicas([0, 1, 2])
    density = build_density(
        METHODS["ERM"],
        num_features=1,
        likelihood=partial(Gaussian, scale="exp", floor=0.0),
        widths=(8, 4),
        replicas=SPLITS,
    )
    initialise(density, range(SPLITS))
    density.requires_grad_(False)
    healthy, _ = measure(density, problem, num_samples=1, seed=0)
    with torch.no_grad():
        dict(density.named_parameters())["likelihood.linear.bias"][1, ..., 1] = -1000.0
    values, _ = measure(density, problem, num_samples=1, seed=0)
    assert not math.isfinite(values["nll"][1]) and values["sharpness"][1] == 0
    assert values["crps"][1] <= values["rmse"][1]  # a mean absolute error
    assert values["nll"][::2] == healthy["nll"][::2] and values["crps"][::2] == healthy["crps"][::2]


@pytest.mark.parametrize("members", [1, MEMBERS])
def test_validation_nll_is_of_the_mixture_on_the_standardised_target(members):
    problem, density, of_split = trained("ERM", "toy-regression", members)
    values = validation_nll(density, problem, num_samples=1, seed=0, members=members)
    for split in range(SPLITS):
        x, y = problem.validation.x[split], problem.validation.y[split]
        mixture = predict(of_split(split), x.expand(members, -1, -1), ensemble=True)
        assert float(values[split]) == pytest.approx(-float(mixture.log_prob(y).mean()), abs=1e-5)
