"""Programs of the kinds that Pyro's users write, small ones, and their data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoDelta, AutoDiagonalNormal, AutoGuideList, AutoNormal
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import Tensor, nn

B, T = 6, 4


@dataclass
class Program:
    """A model, its data, and where its rows are.

    Attributes:
        model: the model.
        args: its arguments.
        at: the sites to fuse at.
        rows: the dimension of each argument that holds the rows, None for an argument that is none of rows.
        guide: makes a guide of the model.
        plate: name of the plate of the rows.
        dim: its dim.
        pools: those that the density at the site has.
        in_event: latents of all rows, which lie in their last event dimension.
    """

    model: Any
    args: tuple[Any, ...]
    at: str | tuple[str, ...] = "y"
    rows: tuple[int | None, ...] = (0, 0)
    guide: Callable[[Any], Any] = AutoNormal
    plate: str | None = None
    dim: int = -1
    pools: tuple[str, ...] = ("log-linear", "linear")
    in_event: tuple[str, ...] = ()


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape)


# Autoencoders


class Autoencoder(nn.Module):
    """A variational autoencoder of binary pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 5))
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.Softplus(), nn.Linear(8, 4))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, raw = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


def autoencoder() -> Program:
    x = torch.bernoulli(torch.full((B, 5), 0.4))
    return Program(Autoencoder(), (x,), "x", (0,), guide=lambda model: model.guide)


class Conditional(nn.Module):
    """A semi-supervised autoencoder: the class of a row is observed, or a latent that the guide draws."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4))
        self.encoder = nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 4))
        self.classifier = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(probs=x.new_ones(len(x), 3) / 3), obs=y)
            pyro.sample("x", dist.Normal(self.decoder(torch.cat([z, y], -1)), 0.5).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("encoder", self.encoder)
        pyro.module("classifier", self.classifier)
        with pyro.plate("data", len(x)):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            loc, raw = self.encoder(torch.cat([x, y], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, raw.exp()).to_event(1))


def supervised() -> Program:
    args = (inputs(B, 4), torch.eye(3)[torch.arange(B) % 3])
    return Program(Conditional(), args, "x", guide=lambda model: model.guide)


def unsupervised() -> Program:
    return Program(Conditional(), (inputs(B, 4),), "x", (0,), guide=lambda model: model.guide)


# Series


class Markov(PyroModule):
    """A deep Markov model of series of differing lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.transition = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))
        self.emission = nn.Linear(2, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> None:
        with pyro.plate("series", len(x)):
            z = x.new_zeros(len(x), 2)
            for t in pyro.markov(range(x.shape[1])):
                with poutine.mask(mask=t < lengths):  # type: ignore[call-overload] # a tensor of booleans
                    z = pyro.sample(f"z_{t}", dist.Normal(self.transition(z), 0.5).to_event(1))
                    pyro.sample(f"x_{t}", dist.Bernoulli(logits=self.emission(z)).to_event(1), obs=x[:, t])


def deep_markov() -> Program:
    x = torch.bernoulli(torch.full((B, 3, 3), 0.5))
    return Program(Markov(), (x, torch.tensor([3, 3, 2, 3, 1, 3])), "x_*")


def deep_markov_states() -> Program:
    """The same, fused at its latent states."""
    return replace(deep_markov(), at="z_*")


def states(y: Tensor) -> None:
    """A hidden Markov model whose states are summed out by the forward algorithm."""
    initial = pyro.sample("initial", dist.Dirichlet(torch.ones(3)))
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(3, 3)).to_event(1))
    loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 0.0, 1.0]), 1.0).to_event(1))
    with pyro.plate("series", len(y)):
        states_ = dist.DiscreteHMM(initial.log(), transition.log(), dist.Normal(loc, 0.5))
        pyro.sample("y", states_.expand([len(y)]), obs=y)


def hidden_markov() -> Program:
    return Program(states, (inputs(B, T),), "y", (0,), pools=("linear",))


def autoregression(y: Tensor) -> None:
    """Counts, each of which depends on the one before, as it was observed."""
    level, slope = (pyro.sample(name, dist.Normal(0.0, 0.5)) for name in ("level", "slope"))
    with pyro.plate("series", y.shape[-1]):
        last = torch.zeros(y.shape[-1])
        for t in pyro.markov(range(len(y))):
            last = pyro.sample(f"y_{t}", dist.Poisson((level + slope * last.log1p()).exp()), obs=y[t])


def counts_in_turn() -> Program:
    return Program(autoregression, (torch.poisson(torch.full((3, B), 2.0)),), "y_2", (1,))


def trend(y: Tensor, horizon: Tensor) -> None:
    """A random walk for each series, in a plate left of that of time."""
    scale = pyro.sample("scale", dist.LogNormal(-1.0, 0.3))
    with pyro.plate("series", len(y), dim=-2), pyro.plate("time", y.shape[-1], dim=-1):
        step = pyro.sample("step", dist.Normal(0.0, scale))
        pyro.sample("y", dist.StudentT(4.0, step.cumsum(-1) + horizon, 0.5), obs=y)


def forecasting() -> Program:
    args = (inputs(B, T).cumsum(-1), torch.arange(float(T)) / T)
    return Program(trend, args, "y", (0, None), plate="series", dim=-2)


def epidemic(cases: Tensor, population: Tensor) -> None:
    """Susceptible, infected and removed of each region, by one step a day; a share of the new cases is reported."""
    contacts = pyro.sample("contacts", dist.LogNormal(0.0, 0.3))
    recovery = pyro.sample("recovery", dist.Beta(4.0, 8.0))
    share = pyro.sample("share", dist.Beta(5.0, 5.0))
    with pyro.plate("regions", len(cases)):
        infected = pyro.sample("seed", dist.LogNormal(1.0, 0.2))
        susceptible, expected = population - infected, []
        for _ in range(cases.shape[1]):
            new = susceptible * (1 - (-contacts * infected / population).exp())
            susceptible, infected = susceptible - new, infected * (1 - recovery) + new
            expected.append(share * new)
        pyro.sample("cases", dist.Poisson(torch.stack(expected, -1)).to_event(1), obs=cases)


def compartments() -> Program:
    return Program(epidemic, (torch.poisson(torch.full((B, T), 4.0)), torch.full((B,), 200.0)), "cases")


# Texts


def topics(words: Tensor) -> None:
    """Latent Dirichlet allocation with the topic of each word summed out."""
    with pyro.plate("topics", 3):
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(7)))
    with pyro.plate("documents", words.shape[1]):
        share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("words", len(words)):
            pyro.sample("word", dist.Categorical(share @ topic_words), obs=words)


def allocation() -> Program:
    return Program(topics, (torch.randint(7, (T, B)),), "word", (1,), plate="documents")


class ProductOfExperts(nn.Module):
    """Documents as counts of words, of totals that differ, as ProdLDA has them."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(2, 3, bias=False)

    def forward(self, counts: Tensor) -> None:
        with pyro.plate("documents", len(counts)):
            raw = pyro.sample("raw", dist.Normal(torch.zeros(len(counts), 2), 1.0).to_event(1))
            total = int(counts.sum(-1).max())
            p = dist.Multinomial(total, probs=self.decoder(raw.softmax(-1)).softmax(-1), validate_args=False)
            pyro.sample("counts", p, obs=counts)


def product_topics() -> Program:
    counts = torch.tensor([[2, 1, 0], [0, 3, 1], [1, 1, 1], [0, 1, 0], [4, 0, 0], [1, 0, 1]])
    return Program(ProductOfExperts(), (counts.double(),), "counts", (0,))


# Regressions


def horseshoe(x: Tensor, y: Tensor) -> None:
    """A sparse regression."""
    overall = pyro.sample("overall", dist.HalfCauchy(1.0))
    with pyro.plate("features", x.shape[1]):
        local = pyro.sample("local", dist.HalfCauchy(1.0))
        slope = pyro.sample("slope", dist.Normal(0.0, local * overall))
    sigma = pyro.sample("sigma", dist.Exponential(1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(x @ slope, sigma + 0.1), obs=y)


def sparse() -> Program:
    return Program(horseshoe, (inputs(B, 3), inputs(B)))


def sparse_decentred() -> Program:
    """With its slopes reparameterised."""
    model = poutine.reparam(horseshoe, config={"slope": LocScaleReparam()})
    return Program(model, (inputs(B, 3), inputs(B)))


def schools(group: Tensor, y: Tensor) -> None:
    """Effects of groups around a common mean."""
    mean, spread = pyro.sample("mean", dist.Normal(0.0, 5.0)), pyro.sample("spread", dist.HalfNormal(2.0))
    with pyro.plate("groups", 3):
        effect = pyro.sample("effect", dist.Normal(mean, spread))
    with pyro.plate("rows", len(y)):
        pyro.sample("y", dist.LogNormal(effect[group], 0.5), obs=y)


def hierarchical() -> Program:
    return Program(schools, (torch.tensor([0, 1, 2, 0, 1, 1]), inputs(B).exp()))


def answers(person: Tensor, item: Tensor, y: Tensor) -> None:
    """Item response theory: persons' abilities, items' difficulties and discriminations."""
    with pyro.plate("persons", 3):
        ability = pyro.sample("ability", dist.Normal(0.0, 1.0))
    with pyro.plate("items", 2):
        difficulty = pyro.sample("difficulty", dist.Normal(0.0, 1.0))
        slope = pyro.sample("slope", dist.LogNormal(0.0, 0.5))
    with pyro.plate("answers", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=slope[item] * (ability[person] - difficulty[item])), obs=y)


def item_response() -> Program:
    args = (torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1] * 3), torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0]))
    return Program(answers, args, rows=(0, 0, 0))


def grades(x: Tensor, y: Tensor) -> None:
    """An ordinal regression."""
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    cut = pyro.param("cut", torch.tensor([-1.0, 1.0]), constraint=constraints.ordered_vector)
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.OrderedLogistic(slope * x, cut), obs=y)


def ordinal() -> Program:
    return Program(grades, (inputs(B), torch.tensor([0, 1, 2, 2, 0, 1])))


def experts(x: Tensor, y: Tensor) -> None:
    """A mixture of experts whose choice is summed out."""
    gate = pyro.sample("gate", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    slope = pyro.sample("slope", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("rows", len(x)):
        expert = dist.Normal(x[:, :1] * slope, torch.tensor([0.3, 0.5, 1.0]))
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(logits=x @ gate), expert), obs=y)


def mixture_of_experts() -> Program:
    return Program(experts, (inputs(B, 2), inputs(B)))


def captures(effort: Tensor, y: Tensor) -> None:
    """Capture and recapture, of animals that may not be there at all: how often each was seen in four visits."""
    presence = pyro.sample("presence", dist.Beta(2.0, 2.0))
    level = pyro.sample("level", dist.Normal(0.0, 1.0))
    with pyro.plate("animals", len(y)):
        seen = dist.Binomial(4, logits=level + effort)
        pyro.sample("y", dist.ZeroInflatedDistribution(seen, gate=(1 - presence).expand(len(y))), obs=y)


def capture_recapture() -> Program:
    return Program(captures, (inputs(B), torch.tensor([0.0, 1.0, 2.0, 0.0, 4.0, 0.0])))


def survivors(alive: Tensor, y: Tensor) -> None:
    """Cormack and Jolly's model, whose survival is a latent of each animal and visit that the guide draws."""
    survival, sight = (pyro.sample(name, dist.Beta(4.0, 2.0)) for name in ("survival", "sight"))
    with pyro.plate("animals", len(y)):
        z = torch.ones(len(y))
        for t in pyro.markov(range(y.shape[1])):
            z = pyro.sample(f"z_{t}", dist.Bernoulli(0.05 + 0.9 * survival * z))
            pyro.sample(f"y_{t}", dist.Bernoulli(0.05 + 0.9 * sight * z * alive), obs=y[:, t])


def survivors_guide(alive: Tensor, y: Tensor) -> None:
    for name in ("survival", "sight"):
        shape = pyro.param(f"{name}_shape", torch.tensor(4.0), constraint=constraints.positive)
        pyro.sample(name, dist.Beta(shape, 2.0))
    with pyro.plate("animals", len(y)):
        for t in range(y.shape[1]):
            odds = pyro.param("odds", torch.zeros(T))
            pyro.sample(f"z_{t}", dist.Bernoulli(logits=odds[t].expand(len(y))))


def survival() -> Program:
    args = (torch.full((B,), 0.9), torch.bernoulli(torch.full((B, 3), 0.5)))
    return Program(survivors, args, "y_*", guide=lambda _: survivors_guide)


# Gaussian processes and Bayesian networks


def process(x: Tensor, y: Tensor) -> None:
    """Classification by a Gaussian process whose values at all rows are one latent."""
    length = pyro.sample("length", dist.LogNormal(0.0, 0.3))
    covariance = (-0.5 * (x[:, None] - x).square() / length**2).exp() + 1e-4 * torch.eye(len(x))
    f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x)), covariance))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Bernoulli(logits=f), obs=y)


def process_classes() -> Program:
    args = (inputs(B), torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0]))
    return Program(process, args, in_event=("f",), guide=AutoDiagonalNormal)


class Network(PyroModule):
    """A Bayesian network of Pyro's own modules."""

    def __init__(self) -> None:
        super().__init__()
        linear: Any = PyroModule[nn.Linear]
        self.hidden = linear(2, 4)
        self.hidden.weight = PyroSample(dist.Normal(0.0, 1.0).expand([4, 2]).to_event(2))
        self.output = linear(4, 3)
        self.output.bias = PyroParam(torch.zeros(3))

    def forward(self, x: Tensor, y: Tensor) -> None:
        logits = self.output(self.hidden(x).tanh())
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Categorical(logits=logits), obs=y)


def bayesian_network() -> Program:
    return Program(Network(), (inputs(B, 2), torch.tensor([0, 1, 2, 2, 1, 0])), guide=AutoDiagonalNormal)


def factors(user: Tensor, film: Tensor, y: Tensor) -> None:
    """A factorised matrix of ratings."""
    users = pyro.sample("users", dist.Normal(torch.zeros(3, 2), 1.0).to_event(2))
    with pyro.plate("films", 4):
        films = pyro.sample("film", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    rate = pyro.sample("rate", dist.Gamma(3.0, 3.0))
    with pyro.plate("ratings", len(y)):
        pyro.sample("y", dist.Gamma(rate, (users[user] * films[film]).sum(-1).exp()), obs=y)


def pieces(model: Any) -> Any:
    """A guide of two, of points and of normals."""
    guide = AutoGuideList(model)
    guide.append(AutoDelta(poutine.block(model, expose=["rate"])))
    guide.append(AutoNormal(poutine.block(model, hide=["rate"])))
    return guide


def factorisation() -> Program:
    args = (torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1, 2, 3, 0, 1]), inputs(B).exp())
    return Program(factors, args, rows=(0, 0, 0), guide=pieces)


PROGRAMS: dict[str, Callable[[], Program]] = {
    program.__name__: program
    for program in (
        autoencoder, supervised, unsupervised, deep_markov, deep_markov_states, hidden_markov, counts_in_turn,
        forecasting, compartments, allocation, product_topics, sparse, sparse_decentred, hierarchical, item_response,
        ordinal, mixture_of_experts, capture_recapture, survival, process_classes, bayesian_network, factorisation,
    )
}  # fmt: skip
