"""The choices that the paper leaves open: each changes what it names, and its default changes nothing."""

import json
from dataclasses import replace
from typing import Any

import pandas as pd
import pyro
import pytest
import torch

from pyro_probmix import METHODS, ProbMix, build_density
from pyro_probmix.cli import main
from pyro_probmix.experiments.config import EXPERIMENTS, PAPER, Config
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.data.problem import load_problem
from pyro_probmix.experiments.data.toy import toy_regression
from pyro_probmix.experiments.run.runner import method_density
from pyro_probmix.models import Gaussian, GaussianEmbedding, initialise
from pyro_probmix.models.layers.scales import FLOOR

SMALL = replace(EXPERIMENTS["toy-regression"], splits=(0, 1), widths=(8, 4), methods=("ERM",))


def scored(tmp_path, name, **changes):
    """The results of a small run."""
    file = tmp_path / f"{name}.json"
    small = {"experiment": "toy-regression", "splits": [0, 1], "epochs": 4, "widths": [8, 4], "methods": ["M-ProbMix"]}
    file.write_text(json.dumps(small | changes))
    assert main(["run", str(file), "--out", str(tmp_path / name)]) == 0
    return pd.read_parquet(tmp_path / name / "results.parquet").query("metric in ('nll', 'rmse', 'validation nll')")


def density_of(method, **changes):
    config = replace(SMALL, **changes)
    density = method_density(METHODS[method], config, load_problem(config), 2)
    initialise(density, (0, 1))
    return density.eval()


def test_the_defaults_are_those_of_the_networks():
    config = Config("uci", "yacht")
    assert (config.scale_floor, config.scale_start) == (FLOOR, GaussianEmbedding.INITIAL_BIAS)


def test_targets_in_their_own_units():
    raw, own = load_problem(replace(SMALL, targets="raw")), load_problem(SMALL)
    assert torch.equal(raw.loc, torch.zeros(2, 1, 1)) and torch.equal(raw.scale, torch.ones(2, 1, 1))
    test = torch.as_tensor(toy_regression(1)[1].y, dtype=torch.float32)
    torch.testing.assert_close(raw.test.y[1, :, 0], test)
    torch.testing.assert_close(raw.train.y, own.train.y * own.scale + own.loc)
    assert torch.equal(raw.train.x, own.train.x)
    classes = replace(EXPERIMENTS["toy-classification"], splits=(0,), targets="raw")
    assert torch.equal(load_problem(classes).train.y, load_problem(replace(classes, targets="standardised")).train.y)


def test_the_scale_by_a_log_variance():
    raw = torch.tensor([[0.5, -2.0]])
    head = Gaussian(3, scale="exp", floor=0.01)
    torch.testing.assert_close((head.density(raw).base_dist.scale - 0.01) ** 2, raw[:, 1:].exp())
    hidden = torch.randn(5, 4)
    embedding = GaussianEmbedding(4, scale="exp", floor=0.0, start=-1.5)
    torch.testing.assert_close(
        embedding.density(hidden, hidden).base_dist.variance, (embedding.scale(hidden) - 1.5).exp()
    )
    for wrong in ({"scale": "square"}, {"floor": -0.1}, {"floor": 10**400}):
        with pytest.raises(ValueError, match="Try"):
            Gaussian(3, **wrong)
    with pytest.raises(ValueError, match=r"start=nan, expected a finite number. Try start=-3"):
        GaussianEmbedding(4, start=float("nan"))
    assert Gaussian(3, floor=2**70).density(raw).base_dist.scale == float(2**70)


def test_an_embedding_before_its_activation_is_the_same_network():
    """The function of a network does not depend on which of its numbers are called the embedding."""
    x = torch.randn(6, 1)
    after, before = density_of("ERM"), density_of("ERM", before_activation=True)
    one, two = (density.response(x, lambda _, hidden: hidden) for density in (after, before))
    torch.testing.assert_close(one.base_dist.loc, two.base_dist.loc)
    hidden = before.encoder(x)
    assert bool((hidden < 0).any()) and torch.equal(hidden.relu(), after.encoder(x))


def test_a_deeper_variance_network_leaves_the_mean():
    x = torch.randn(6, 1)
    for method in ("M-ProbMix", "M-ProbMix*"):
        plain, deep = density_of(method), density_of(method, variance_layers=2)
        assert len(list(deep.embedding.hidden.parameters())) == 4 and not list(plain.embedding.hidden.parameters())
        one, two = (density.embedding.density(x, density.encoder(x)) for density in (plain, deep))
        torch.testing.assert_close(one.mean, two.mean)
        assert not torch.allclose(one.variance, two.variance)


@pytest.mark.parametrize("replicas", [None, 3])
def test_one_weight_for_all_pairs_of_a_batch(replicas):
    density = build_density(METHODS["M-Mix"], num_features=2, likelihood=Gaussian, widths=(5, 4), replicas=replicas)
    x, y = torch.randn(10, 2), torch.randn(10, 1)
    process = ProbMix(density, at="z", alpha=0.7, one_weight=True)
    pyro.set_rng_seed(0)
    rows = torch.randperm(10) if replicas is None else torch.stack([torch.randperm(10) for _ in range(replicas)])
    sites: Any = pyro.poutine.trace(process).get_trace(x, y, rows).nodes
    weight, edge = sites["lambda"]["value"], sites["edge"]["value"]
    assert weight.numel() == (replicas or 1)
    ends = [density.encoder(x)[..., edge[..., k], :] if replicas is None else
            torch.stack([density.encoder(x)[r][edge[r, :, k]] for r in range(replicas)]) for k in (0, 1)]  # fmt: skip
    w = weight.reshape(-1, 1, 1) if replicas else weight
    mixed = w * ends[0] + (1 - w) * ends[1]
    torch.testing.assert_close(sites["z"]["value"], torch.cat([mixed, mixed], -2))


def test_the_last_epoch_beside_the_best_or_in_its_place(tmp_path):
    best = scored(tmp_path, "best")
    both = scored(tmp_path, "both", best_epoch="both")
    last = scored(tmp_path, "last", best_epoch="last")
    own, late = both[both["setting"] == "fixed"], both[both["setting"] == "fixed, last epoch"]
    pd.testing.assert_frame_equal(own.reset_index(drop=True), best.reset_index(drop=True))
    assert late["value"].tolist() == last["value"].tolist()
    of_epochs = scored(tmp_path, "long", best_epoch="both", epochs=60, learning_rate=0.05)
    nll = of_epochs[of_epochs["metric"] == "validation nll"].groupby("setting")["value"].mean()
    assert nll["fixed"] < nll["fixed, last epoch"]  # the lowest is no later one


def test_each_choice_changes_the_numbers(tmp_path):
    plain = scored(tmp_path, "plain")["value"].tolist()
    choices: list[dict[str, Any]] = [
        {"targets": "raw"},
        {"scale": "exp"},
        {"scale_floor": 0.5},
        {"scale_start": 0.0},
        {"variance_layers": 1},
        {"before_activation": True},
        {"weight": "batch"},
    ]
    found = [scored(tmp_path, f"choice{k}", **choice)["value"].tolist() for k, choice in enumerate(choices)]
    assert all(one != plain for one in found) and len({tuple(one) for one in found}) == len(choices)


def test_the_setting_of_the_paper(tmp_path):
    command = ["run", "toy-regression", "--seeds", "1", "--epochs", "1", "--method", "ERM", "--setting", "paper"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {name: record[name] for name in PAPER} == PAPER
    assert set(pd.read_parquet(tmp_path / "run" / "results.parquet")["setting"]) == {"paper"}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"targets": "log"}, "targets"),
        ({"scale": "square"}, "scale"),
        ({"scale_floor": -1.0}, "scale_floor"),
        ({"scale_start": float("inf")}, "scale_start"),
        ({"variance_layers": -1}, "variance_layers"),
        ({"best_epoch": "first"}, "best_epoch"),
        ({"weight": "row"}, "weight"),
        ({"best_epoch": "last", "patience": 3}, "patience"),
    ],
)
def test_what_is_no_choice_is_refused(choice, told):
    with pytest.raises(ValueError, match=f"{told}.*Try"):
        check_config(replace(SMALL, **choice))
