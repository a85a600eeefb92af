"""Every class of ``pyro.distributions`` with arguments for three rows, and how each pool takes it.

``tests/pooling/test_every_distribution.py`` holds the pools to what is said here, and ``docs/what_can_be_fused.py`` writes the
page from it. A class that Pyro adds has to be placed here before the tests pass.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions import constraints, transforms
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor

from tests.pooling.cases import (
    REAL,
    circle,
    compositions,
    counted,
    counts,
    half_line,
    heavy_line,
    line,
    panels,
    plane,
    real_line,
    t,
    triangle,
    unit_interval,
)

Points = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Refused:
    """A pool that there is not, in words for the page, and what the error says (a regular expression)."""

    why: str
    message: str
    error: type[Exception] = TypeError


#: In closed form, as a finite or truncated sum, by quadrature on the line, or of rows of any class.
How = Literal["closed", "sum", "quadrature", "any"] | Refused


@dataclass(frozen=True)
class Placed:
    """A class: how it is made from tensors, those of three rows, its support as points, and how each pool takes it."""

    section: str
    make: Callable[..., Any]
    arguments: tuple[Tensor, ...]  # each [3, ...]
    log_linear: How
    support: Callable[[], Points] | None = None  # points [n, *event_shape] and log measures [n]
    linear: How = "any"
    moving: bool = False  # True: the support moves with the arguments, which a sum over fixed points does not see
    batched: bool = True  # False: the class has no batch, and each row of the arguments makes one distribution
    draws: int = 2000  # 0: the class cannot draw
    gradients: bool = True  # False: the gradient of its draws is not that of their mean, such as a straight-through one
    tolerance: float = 1e-6
    note: str = ""  # what the page adds on the log-linear pool
    expands: bool = True  # False: the class cannot expand its batch
    several: bool = True  # False: takes and gives one value of each row at a time
    shown: Callable[[Tensor], Tensor] = lambda value: (
        value
    )  # what draws show of values with a density, such as relaxed ones
    value_alone: bool = (
        False  # True: its log density is slow, or has gradients that are NaN, and its log-linear pool a value alone
    )
    smooth: bool = True  # False: the class's own log_prob cannot be differentiated
    scored: bool = True  # False: the class has no log_prob
    given: Callable[[Any], Tensor] | None = (
        None  # values [n, *batch_shape, *event_shape] to score, where it cannot draw
    )

    def how(self, pool: str) -> How:
        return self.linear if pool == "linear" else self.log_linear

    def values(self, p: Any) -> Tensor:
        """Values to score, ``[n, *batch_shape, *event_shape]``."""
        if self.given is not None:
            return self.given(p)
        drawn: Tensor = p.sample((4,)) if self.several else p.sample().unsqueeze(0)
        return drawn


NO_POOL = Refused(
    "it is multivariate, and its pool has no closed form", r"has no closed log-linear pool.*Try the linear pool"
)

ATOMS = Refused("it consists of point masses, and two members may share none", r"point masses.*Try the linear pool")

X, Y = t(0.3, -1.5, 2.0), t(1.0, 0.5, 2.0)
SHAPE, RATE = t(1.5, 4.0, 2.5), t(1.0, 2.5, 0.6)
LOGITS = t([0.3, -1.2, 0.5], [1.0, 0.0, -2.0], [-1.0, 0.4, 0.8])
VECTORS = t([0.0, 1.0], [1.0, -1.0], [1.5, 0.3])
TRIL = t([[1.0, 0.0], [0.4, 0.8]], [[0.7, 0.0], [-0.3, 1.1]], [[1.3, 0.0], [0.2, 0.9]])
DIAGONAL = t([1.0, 0.5], [0.7, 1.2], [0.9, 0.4])
SERIES = t(0.9, 0.5, -0.4)


def hmm(make: Callable[..., Any]) -> Callable[..., Any]:
    """A series of three steps of two numbers, whose one hidden state decays by a factor of each row."""

    def build(decay: Tensor) -> Any:
        one = torch.ones(1, dtype=REAL)
        step = dist.Normal(0 * one, one).to_event(1)
        seen = dist.Normal(torch.zeros(2, dtype=REAL), torch.ones(2, dtype=REAL)).to_event(1)
        return make(step, decay[..., None, None, None].expand(*decay.shape, 3, 1, 1), step, t([1.0, 0.5]), seen)

    return build


def gamma_hmm(decay: Tensor) -> Any:
    rows = decay[..., None, None, None].expand(*decay.shape, 3, 1, 1)
    one = torch.ones(1, dtype=REAL)
    step = dist.MultivariateNormal(0 * one, torch.eye(1, dtype=REAL))
    seen = dist.MultivariateNormal(torch.zeros(2, dtype=REAL), torch.eye(2, dtype=REAL))
    scale = dist.Gamma(2 * one[0], one[0])
    return dist.GammaGaussianHMM(scale, step, rows, step, t([1.0, 0.5]), seen)


def markov_field(decay: Tensor) -> Any:
    shape = (*decay.shape, 3)
    tie = torch.eye(2, dtype=REAL) + 0.3
    low = torch.linalg.cholesky(tie)
    steps = dist.MultivariateNormal(torch.zeros(*shape, 2, dtype=REAL), scale_tril=low.expand(*shape, 2, 2))
    loc = decay[..., None, None] * torch.ones(3, 3, dtype=REAL)
    seen = dist.MultivariateNormal(loc, scale_tril=torch.eye(3, dtype=REAL).expand(*shape, 3, 3))
    first = dist.MultivariateNormal(torch.zeros(1, dtype=REAL), torch.eye(1, dtype=REAL))
    return dist.GaussianMRF(first, steps, seen)


def mixture(loc: Tensor, scale: Tensor) -> Any:
    components = dist.Normal(torch.stack([loc, loc + 3], -1), torch.stack([scale, scale / 2], -1))
    mixing = dist.Categorical(torch.tensor([0.3, 0.7], dtype=REAL).expand(*loc.shape, 2))
    return dist.MixtureSameFamily(mixing, components)


def rejector(concentration: Tensor) -> Any:
    """A truncated exponential of each row, by rejection."""
    proposal = dist.Exponential(concentration)
    return dist.Rejector(
        proposal, lambda x: torch.where(x < 2, 0.0, -math.inf).to(x), torch.log(-torch.expm1(-2 * concentration))
    )


def old_cholesky(concentration: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return dist.LKJCorrCholesky(2, concentration)


def correlations() -> Points:
    u, step = line(-18.0, 18.0, 2001)
    r = torch.tanh(u)
    one = torch.ones_like(r)
    return torch.stack([torch.stack([one, r], -1), torch.stack([r, one], -1)], -1), step - 2 * torch.cosh(u).log()


def cholesky_factors() -> Points:
    u, step = line(-18.0, 18.0, 2001)
    r, zero = torch.tanh(u), torch.zeros_like(u)
    return (
        torch.stack([torch.stack([zero + 1, zero], -1), torch.stack([r, 1 / torch.cosh(u)], -1)], -2),
        step - 2 * torch.cosh(u).log(),
    )


def positive_definite() -> Points:
    """Matrices of two rows by their Cholesky factors, log a, b and log d, with the Jacobian 4 a^3 d^2 / (a d) a d."""
    (u, du), (b, db) = line(-8.0, 3.0, 56), line(-9.0, 9.0, 61)
    grid = torch.cartesian_prod(u, b, u)
    a, off, d = grid[:, 0].exp(), grid[:, 1], grid[:, 2].exp()
    low = torch.stack([torch.stack([a, 0 * a], -1), torch.stack([off, d], -1)], -2)
    return low @ low.mT, 2 * du[0] + db[0] + math.log(4) + 3 * a.log() + 2 * d.log()


def sphere() -> Points:
    places, weights = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(60))
    angle, around = circle()
    z, phi = torch.cartesian_prod(places, angle[::3]).unbind(-1)
    side = (1 - z.square()).sqrt()
    points = torch.stack([side * phi.cos(), side * phi.sin(), z], -1)
    measure = weights.log().repeat_interleave(120) + around[0] + math.log(3)
    return points / points.norm(dim=-1, keepdim=True), measure


def torus() -> Points:
    angle, step = circle()
    angle = angle[::4]
    return torch.cartesian_prod(angle, angle), torch.full(
        (len(angle) ** 2,), 2 * (step[0] + math.log(4)).item(), dtype=REAL
    )


def directions() -> Points:
    angle, step = circle()
    return torch.stack([angle.cos(), angle.sin()], -1), step


def one_number(points: Points) -> Points:
    return points[0].unsqueeze(-1), points[1]


def words(number: int, length: int) -> Points:
    return counted(torch.tensor(list(itertools.product(range(number), repeat=length)), dtype=REAL))


def fixed(*values: float) -> Points:
    return counted(torch.tensor(values, dtype=REAL))


NUMBER, POSITIVE, COUNT, CLASS = "One continuous number", "One positive or bounded number", "Counts", "Classes"
VECTOR, CIRCLE, MATRIX, SERIES_ = "Vectors", "Angles and directions", "Matrices, trees and matchings", "Time series"
WRAPPER, OTHER = "Wrappers", "Others"

PLACED: dict[str, Placed] = {
    # One continuous number
    "Normal": Placed(NUMBER, dist.Normal, (X, Y), "closed", real_line),
    "NanMaskedNormal": Placed(NUMBER, dist.NanMaskedNormal, (X, Y), "closed", real_line),
    "StudentT": Placed(NUMBER, dist.StudentT, (4 * Y, X, Y), "quadrature", heavy_line),
    "Cauchy": Placed(NUMBER, dist.Cauchy, (X, Y), "quadrature", heavy_line),
    "Laplace": Placed(NUMBER, dist.Laplace, (X.round(), Y), "quadrature", lambda: panels(-80.0, 80.0)),
    "AsymmetricLaplace": Placed(
        NUMBER, dist.AsymmetricLaplace, (X.round(), Y, t(1.2, 0.8, 1.0)), "quadrature", lambda: panels(-80.0, 80.0)
    ),
    "SoftLaplace": Placed(NUMBER, dist.SoftLaplace, (X, Y), "quadrature", lambda: real_line(-80.0, 80.0)),
    "SoftAsymmetricLaplace": Placed(
        NUMBER,
        dist.SoftAsymmetricLaplace,
        (X, Y, t(1.2, 0.8, 1.0), t(1.0, 0.7, 1.1)),
        "quadrature",
        lambda: real_line(-80.0, 80.0),
        value_alone=True,
        note="without a gradient, as the class has none 38 scales from its centre",
    ),
    "Logistic": Placed(NUMBER, dist.Logistic, (X, Y), "quadrature", lambda: real_line(-90.0, 90.0)),
    "SkewLogistic": Placed(
        NUMBER, dist.SkewLogistic, (X, Y, t(1.2, 0.8, 1.0)), "quadrature", lambda: real_line(-90.0, 90.0)
    ),
    "Gumbel": Placed(NUMBER, dist.Gumbel, (X, Y), "quadrature", lambda: line(-20.0, 100.0, 6001)),
    "MixtureSameFamily": Placed(NUMBER, mixture, (X, Y), "quadrature", real_line),
    "MaskedMixture": Placed(
        NUMBER,
        lambda a, b, first: dist.MaskedMixture(first > 0, dist.Normal(a, 1.0), dist.Laplace(b, 1.0)),
        (X, Y.round(), t(1.0, -1.0, 1.0)),
        "quadrature",
        lambda: panels(-60.0, 60.0),
    ),
    "Stable": Placed(
        NUMBER,
        dist.Stable,
        (t(1.5, 1.8, 1.2), t(0.1, -0.2, 0.0), Y, X),
        "quadrature",
        lambda: heavy_line(9.0, 401),
        tolerance=1e-4,
        value_alone=True,
    ),
    "StableWithLogProb": Placed(
        NUMBER,
        dist.StableWithLogProb,
        (t(1.5, 1.8, 1.2), t(0.1, -0.2, 0.0), Y, X),
        "quadrature",
        lambda: heavy_line(9.0, 401),
        tolerance=1e-4,
        value_alone=True,
    ),
    # One positive or bounded number
    "LogNormal": Placed(POSITIVE, dist.LogNormal, (X, Y), "closed", lambda: half_line(-30.0, 30.0)),
    "HalfNormal": Placed(POSITIVE, dist.HalfNormal, (Y,), "closed", lambda: half_line(high=4.0)),
    "HalfCauchy": Placed(POSITIVE, dist.HalfCauchy, (Y,), "quadrature", lambda: half_line(high=45.0)),
    "Exponential": Placed(POSITIVE, dist.Exponential, (RATE,), "closed", lambda: half_line(high=6.0)),
    "Gamma": Placed(POSITIVE, dist.Gamma, (SHAPE, RATE), "closed", lambda: half_line(high=6.0)),
    "Chi2": Placed(POSITIVE, dist.Chi2, (SHAPE,), "closed", lambda: half_line(low=-60.0, high=6.0)),
    "InverseGamma": Placed(POSITIVE, dist.InverseGamma, (SHAPE, RATE), "closed", lambda: half_line(-6.0, 45.0)),
    "Weibull": Placed(POSITIVE, dist.Weibull, (RATE, SHAPE), "quadrature", half_line),
    "Pareto": Placed(
        POSITIVE, dist.Pareto, (t(1.0, 1.0, 1.0), SHAPE), "quadrature", lambda: half_line_from(1.0), moving=True
    ),
    "GeneralizedPareto": Placed(
        POSITIVE,
        lambda s, c: vars(dist)["GeneralizedPareto"](torch.zeros_like(s), s, c),
        (Y, t(0.5, 0.2, 0.3)),
        "quadrature",
        lambda: half_line(high=60.0),
    ),
    "FisherSnedecor": Placed(
        POSITIVE, dist.FisherSnedecor, (2 * SHAPE, 4 * RATE), "quadrature", lambda: half_line(-45.0, 60.0)
    ),
    "FoldedDistribution": Placed(
        POSITIVE, lambda a, b: dist.FoldedDistribution(dist.Normal(a, b)), (X, Y), "quadrature", half_line
    ),
    "Rejector": Placed(
        POSITIVE,
        rejector,
        (RATE,),
        Refused("the class declares no support", r"declares no support.*Try the linear pool"),
    ),
    "TruncatedPolyaGamma": Placed(
        POSITIVE,
        lambda x: dist.TruncatedPolyaGamma(x[..., 0]),
        (t([0.0], [0.0], [0.0]),),
        "quadrature",
        lambda: bounded_line(0.0, 2.5),
        batched=False,
    ),
    "Beta": Placed(POSITIVE, dist.Beta, (SHAPE, RATE), "closed", unit_interval),
    "Kumaraswamy": Placed(POSITIVE, dist.Kumaraswamy, (SHAPE, RATE + 0.8), "quadrature", unit_interval),
    "AffineBeta": Placed(
        POSITIVE,
        lambda a, b: dist.AffineBeta(a, b + 1, torch.tensor(-1.0, dtype=REAL), torch.tensor(3.0, dtype=REAL)),
        (SHAPE, RATE),
        "closed",
        lambda: bounded_line(-1.0, 2.0),
    ),
    "Uniform": Placed(POSITIVE, dist.Uniform, (X, X + 5.0), "quadrature", lambda: panels(-2.0, 8.0, 0.1), moving=True),
    "ContinuousBernoulli": Placed(
        POSITIVE, lambda x: dist.ContinuousBernoulli(logits=x), (X,), "closed", unit_interval
    ),
    "RelaxedBernoulli": Placed(
        POSITIVE,
        lambda x: dist.RelaxedBernoulli(torch.tensor(0.7, dtype=REAL), logits=x),
        (X,),
        "quadrature",
        unit_interval,
    ),
    "RelaxedBernoulliStraightThrough": Placed(
        POSITIVE,
        lambda x: dist.RelaxedBernoulliStraightThrough(torch.tensor(0.7, dtype=REAL), logits=x),
        (X,),
        "quadrature",
        unit_interval,
        shown=torch.round,
        gradients=False,
    ),
    # Counts
    "Bernoulli": Placed(COUNT, lambda x: dist.Bernoulli(logits=x), (X,), "closed", lambda: counts(1)),
    "Binomial": Placed(COUNT, lambda x: dist.Binomial(5, logits=x), (X,), "closed", lambda: counts(5)),
    "ExtendedBinomial": Placed(COUNT, lambda x: dist.ExtendedBinomial(5, logits=x), (X,), "closed", lambda: counts(5)),
    "Geometric": Placed(COUNT, lambda x: dist.Geometric(logits=x), (X,), "closed", lambda: counts(300)),
    "Poisson": Placed(COUNT, dist.Poisson, (RATE,), "closed", lambda: counts(60)),
    "NegativeBinomial": Placed(
        COUNT, lambda x: dist.NegativeBinomial(t(5.0)[0], logits=x - 1), (X,), "closed", lambda: counts(400)
    ),
    "GammaPoisson": Placed(COUNT, dist.GammaPoisson, (SHAPE, RATE), "sum", lambda: counts(400)),
    "ZeroInflatedPoisson": Placed(
        COUNT, lambda r, g: dist.ZeroInflatedPoisson(r, gate_logits=g), (RATE, X), "sum", lambda: counts(60)
    ),
    "ZeroInflatedNegativeBinomial": Placed(
        COUNT,
        lambda x, g: dist.ZeroInflatedNegativeBinomial(t(5.0)[0], logits=x - 1, gate_logits=g),
        (X, X),
        "sum",
        lambda: counts(400),
    ),
    "ZeroInflatedDistribution": Placed(
        COUNT,
        lambda x, g: dist.ZeroInflatedDistribution(dist.Geometric(logits=x), gate_logits=g),
        (X, X),
        "sum",
        lambda: counts(300),
    ),
    "BetaBinomial": Placed(
        COUNT, lambda a, b: dist.BetaBinomial(a, b, total_count=6), (SHAPE, RATE), "sum", lambda: counts(6)
    ),
    "ExtendedBetaBinomial": Placed(
        COUNT, lambda a, b: dist.ExtendedBetaBinomial(a, b, total_count=6), (SHAPE, RATE), "sum", lambda: counts(6)
    ),
    "LogNormalNegativeBinomial": Placed(
        COUNT,
        lambda x, s: dist.LogNormalNegativeBinomial(t(5.0)[0], x - 1, s / 4),
        (X, Y),
        "sum",
        lambda: counts(600),
        draws=0,
        given=lambda p: torch.randint(9, (4, *p.shape())).to(REAL),
    ),
    # Classes
    "Categorical": Placed(CLASS, lambda x: dist.Categorical(logits=x), (LOGITS,), "closed", lambda: counts(2)),
    "OrderedLogistic": Placed(
        CLASS, lambda x: dist.OrderedLogistic(x, t(-1.0, 0.5)), (X,), "closed", lambda: counts(2)
    ),
    "OneHotCategorical": Placed(
        CLASS,
        lambda x: dist.OneHotCategorical(logits=x),
        (LOGITS,),
        "closed",
        lambda: counted(torch.eye(3, dtype=REAL)),
    ),
    "OneHotCategoricalStraightThrough": Placed(
        CLASS,
        lambda x: dist.OneHotCategoricalStraightThrough(logits=x),
        (LOGITS,),
        "closed",
        lambda: counted(torch.eye(3, dtype=REAL)),
        gradients=False,
    ),
    "Multinomial": Placed(
        CLASS, lambda x: dist.Multinomial(4, logits=x), (LOGITS,), "closed", lambda: counted(compositions(4, 3))
    ),
    "DirichletMultinomial": Placed(
        CLASS,
        lambda x: dist.DirichletMultinomial(x, total_count=4),
        (LOGITS.exp(),),
        NO_POOL,
        lambda: counted(compositions(4, 3)),
    ),
    "RelaxedOneHotCategorical": Placed(
        CLASS,
        lambda x: dist.RelaxedOneHotCategorical(torch.tensor(0.7, dtype=REAL), logits=x),
        (LOGITS,),
        NO_POOL,
        triangle,
    ),
    "RelaxedOneHotCategoricalStraightThrough": Placed(
        CLASS,
        lambda x: dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.7, dtype=REAL), logits=x),
        (LOGITS,),
        NO_POOL,
        triangle,
        gradients=False,
    ),
    # Vectors
    "MultivariateNormal": Placed(
        VECTOR, lambda m, s: dist.MultivariateNormal(m, scale_tril=s.tril()), (VECTORS, TRIL), "closed", plane
    ),
    "NanMaskedMultivariateNormal": Placed(
        VECTOR, lambda m, s: dist.NanMaskedMultivariateNormal(m, scale_tril=s.tril()), (VECTORS, TRIL), "closed", plane
    ),
    "OMTMultivariateNormal": Placed(
        VECTOR, lambda m, s: dist.OMTMultivariateNormal(m, s.tril()), (VECTORS, TRIL), "closed", plane, batched=False
    ),
    "AVFMultivariateNormal": Placed(
        VECTOR,
        lambda m, s: dist.AVFMultivariateNormal(m, s.tril(), torch.full((2, 1, 2), 0.1, dtype=REAL)),
        (VECTORS, TRIL),
        "closed",
        plane,
        batched=False,
    ),
    "LowRankMultivariateNormal": Placed(
        VECTOR, dist.LowRankMultivariateNormal, (VECTORS, VECTORS.unsqueeze(-1), DIAGONAL), "closed", plane
    ),
    "MultivariateStudentT": Placed(
        VECTOR, lambda d, m, s: dist.MultivariateStudentT(d, m, s.tril()), (4 * Y, VECTORS, TRIL), NO_POOL
    ),
    "MixtureOfDiagNormals": Placed(
        VECTOR,
        dist.MixtureOfDiagNormals,
        (torch.stack([VECTORS, VECTORS + 2], 1), DIAGONAL.unsqueeze(1).expand(3, 2, 2), LOGITS[:, :2]),
        NO_POOL,
        draws=500,
        several=False,
    ),
    "MixtureOfDiagNormalsSharedCovariance": Placed(
        VECTOR,
        dist.MixtureOfDiagNormalsSharedCovariance,
        (torch.stack([VECTORS, VECTORS + 2], 1), DIAGONAL, LOGITS[:, :2]),
        NO_POOL,
        draws=500,
        several=False,
    ),
    "GaussianScaleMixture": Placed(
        VECTOR,
        lambda c, logits, s: dist.GaussianScaleMixture(c, logits, s),
        (DIAGONAL, LOGITS[:, :2], DIAGONAL),
        Refused("the class declares no support", r"declares no support.*Try the linear pool"),
        smooth=False,
        draws=500,
        several=False,
        batched=False,
    ),
    "GroupedNormalNormal": Placed(
        VECTOR,
        lambda m, s, o: dist.GroupedNormalNormal(m, s, o, torch.tensor([0, 1, 0])),
        (VECTORS, DIAGONAL, t([0.5, 1.0, 0.7], [0.8, 0.3, 1.1], [0.6, 0.9, 0.5])),
        Refused(
            "its values are vectors, though the class declares numbers",
            r"GroupedNormalNormal\.log_prob only supports values",
            ValueError,
        ),
        batched=False,
        draws=0,
        several=False,
        given=lambda p: torch.randn(1, 3, dtype=REAL),
    ),
    "Dirichlet": Placed(VECTOR, dist.Dirichlet, (LOGITS.exp() + 1,), "closed", triangle),
    "LogisticNormal": Placed(VECTOR, dist.LogisticNormal, (VECTORS, DIAGONAL), "closed", triangle),
    # Angles and directions
    "VonMises": Placed(CIRCLE, dist.VonMises, (X, RATE), "closed", circle),
    "SineSkewed": Placed(
        CIRCLE,
        lambda a, k, s: dist.SineSkewed(dist.VonMises(a, k).to_event(1), s),
        (X.unsqueeze(-1), RATE.unsqueeze(-1), t([0.2], [-0.3], [0.1])),
        "quadrature",
        lambda: one_number(circle()),
    ),
    "SineBivariateVonMises": Placed(
        CIRCLE,
        lambda a, b, k, c, r: dist.SineBivariateVonMises(a, b, k, c, correlation=r),
        (X, Y, RATE + 1, RATE + 1, t(0.2, -0.3, 0.1)),
        NO_POOL,
        torus,
    ),
    "ProjectedNormal": Placed(CIRCLE, dist.ProjectedNormal, (VECTORS,), NO_POOL, directions),
    "VonMises3D": Placed(
        CIRCLE,
        dist.VonMises3D,
        (t([1.0, 0.5, -0.3], [0.2, -1.0, 2.0], [-0.4, 0.3, 0.8]),),
        "closed",
        sphere,
        draws=0,
        given=lambda p: torch.nn.functional.normalize(torch.randn(4, *p.shape(), dtype=REAL), dim=-1),
    ),
    # Matrices, trees and matchings
    "LKJ": Placed(MATRIX, lambda c: dist.LKJ(2, c), (SHAPE,), "closed", correlations, expands=False),
    "LKJCholesky": Placed(MATRIX, lambda c: dist.LKJCholesky(2, c), (SHAPE,), "closed", cholesky_factors),
    "LKJCorrCholesky": Placed(MATRIX, old_cholesky, (SHAPE,), "closed", cholesky_factors),
    "Wishart": Placed(
        MATRIX,
        lambda d, s: dist.Wishart(d + 4, scale_tril=s.tril()),
        (SHAPE, TRIL),
        "closed",
        positive_definite,
        gradients=False,
    ),
    "OneOneMatching": Placed(
        MATRIX,
        dist.OneOneMatching,
        (torch.stack([LOGITS, LOGITS.T, -LOGITS]),),
        "closed",
        lambda: counted(torch.tensor(list(itertools.permutations(range(3))), dtype=torch.long)),
        batched=False,
    ),
    "OneTwoMatching": Placed(
        MATRIX,
        dist.OneTwoMatching,
        (torch.stack([torch.cat([LOGITS[:, :2], -x[:, :2] / 2])[:4] for x in (LOGITS, LOGITS.T, 2 * LOGITS)]),),
        "closed",
        lambda: counted(torch.tensor([x for x in itertools.product((0, 1), repeat=4) if sum(x) == 2])),
        batched=False,
    ),
    "SpanningTree": Placed(
        MATRIX,
        dist.SpanningTree,
        (LOGITS,),
        "closed",
        lambda: counted(dist.SpanningTree(LOGITS[0]).enumerate_support()),
        batched=False,
        draws=200,
        several=False,
    ),
    # Time series
    "DiscreteHMM": Placed(
        SERIES_,
        lambda a, b, m: dist.DiscreteHMM(
            a, b.unsqueeze(-3).expand(*b.shape[:-2], 3, 2, 2), dist.Normal(m.unsqueeze(-2), 1.0)
        ),
        (VECTORS, TRIL, VECTORS),
        NO_POOL,
    ),
    "GaussianHMM": Placed(SERIES_, hmm(dist.GaussianHMM), (SERIES,), NO_POOL),
    "LinearHMM": Placed(SERIES_, hmm(dist.LinearHMM), (SERIES,), NO_POOL, scored=False),
    "GammaGaussianHMM": Placed(
        SERIES_, gamma_hmm, (SERIES,), NO_POOL, draws=0, given=lambda p: torch.randn(4, *p.shape(), dtype=REAL)
    ),
    "IndependentHMM": Placed(
        SERIES_,
        lambda d: dist.IndependentHMM(hmm(single)(d)),
        (torch.stack([SERIES, -SERIES], -1),),
        NO_POOL,
    ),
    "GaussianMRF": Placed(
        SERIES_, markov_field, (SERIES,), NO_POOL, draws=0, given=lambda p: torch.randn(4, *p.shape(), dtype=REAL)
    ),
    "CoalescentTimes": Placed(SERIES_, lambda r: dist.CoalescentTimes(t(0.0, 0.2, 0.5), r), (RATE,), NO_POOL),
    "CoalescentTimesWithRate": Placed(
        SERIES_,
        lambda r: dist.CoalescentTimesWithRate(t(0.0, 1.0, 1.5), r.unsqueeze(-1).expand(*r.shape, 4)),
        (RATE,),
        NO_POOL,
        draws=0,
        given=lambda p: t([-0.5, 0.7], [-2.0, 0.3]).unsqueeze(1).expand(2, *p.shape()),
    ),
    # Wrappers
    "Independent": Placed(WRAPPER, lambda m, s: dist.Normal(m, s).to_event(1), (VECTORS, DIAGONAL), "closed", plane),
    "MaskedDistribution": Placed(
        WRAPPER, lambda m, s: MaskedDistribution(dist.Normal(m, s), True), (X, Y), "closed", real_line
    ),
    "ExpandedDistribution": Placed(
        WRAPPER, lambda m, s: ExpandedDistribution(dist.Normal(m, s), m.shape), (X, Y), "closed", real_line
    ),
    "TransformedDistribution": Placed(
        WRAPPER,
        lambda m, s: dist.TransformedDistribution(dist.Normal(m, s), [transforms.SigmoidTransform()]),
        (X, Y),
        "closed",
        unit_interval,
    ),
    # Others
    "Delta": Placed(OTHER, dist.Delta, (X,), "closed", draws=500),
    "Empirical": Placed(
        OTHER,
        dist.Empirical,
        (t([1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [3.0, 1.0, 2.0]), LOGITS),
        ATOMS,
        draws=500,
        several=False,
    ),
    "ImproperUniform": Placed(
        OTHER,
        lambda x: dist.ImproperUniform(constraints.real, x.shape, ()),
        (X,),
        Refused("its density has no finite mass", "does not exist", ValueError),
        draws=0,
        given=lambda p: torch.randn(4, *p.shape(), dtype=REAL),
    ),
    "Unit": Placed(OTHER, dist.Unit, (X,), NO_POOL, draws=0),
}
#: Base classes, which cannot be instantiated.
ABSTRACT = {"ExponentialFamily", "TorchDistribution"}


def single(step: Any, decay: Tensor, *rest: Any) -> Any:
    """A series of one number, each of two for each row."""
    first, matrix, _ = rest
    return dist.GaussianHMM(step, decay, first, matrix[:, :1], dist.Normal(t(0.0), t(1.0)).to_event(1))


def half_line_from(low: float) -> Points:
    points, measure = half_line(low=-45.0, high=60.0)
    return low + points, measure


def bounded_line(low: float, high: float) -> Points:
    points, measure = unit_interval()
    return low + (high - low) * points, measure + math.log(high - low)
