"""The check of a method: that its parts are there, and that it trains, predicts and saves."""

from __future__ import annotations

__all__ = ["check_method"]

import tempfile
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyro
import torch
from torch import Tensor

from pyro_probmix import load
from pyro_probmix.estimators import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.fusing.messenger import Pool
from pyro_probmix.inference import Checkpoint, Fit, fit, predict
from pyro_probmix.inference.methods import (
    CRITERIA,
    GRAPHS,
    build_criterion,
    build_graph,
    build_process,
    only_regression,
)
from pyro_probmix.inference.pseudo_rows import PSEUDO_ROWS
from pyro_probmix.models import BEYOND, LIKELIHOODS, METHODS, Method, ProbMix, build_density, find_method, initialise
from pyro_probmix.testing.invariants import Invariants, demand, demand_close, refuse

ROWS, FEATURES, REPLICAS, CLASSES = 24, 2, 2, 3


@dataclass(frozen=True)
class Trained:
    """A method, and what it trains on.

    Attributes:
        method: as data.
        x: ``[R, n, d]``.
    """

    method: Method
    x: Tensor

    @property
    def classes(self) -> bool:
        """Whether its graph is one of classes."""
        return self.method.graph == "same-class"

    def density(self, seed: int = 0) -> Any:
        """A density with replicas, its weights from seeds."""
        name = self.method.likelihood or ("categorical" if self.classes else "gaussian")
        made = build_density(
            self.method,
            num_features=FEATURES,
            likelihood=LIKELIHOODS[name],
            num_outputs=CLASSES if self.classes else 1,
            widths=(8, 4),
            replicas=REPLICAS,
        )
        initialise(made, range(seed, seed + REPLICAS))
        return made

    def responses(self) -> Tensor:
        """Responses that the likelihood may have, ``[R, n, 1]``, or ``[R, n]`` for classes."""
        with torch.no_grad():
            return torch.as_tensor(self.density()(self.x))

    def process(self, density: Any, y: Tensor) -> ProbMix:
        """The process by which the method trains a density."""
        graph = build_graph(self.method.graph, self.x, y, neighbors=3)
        labels: Any = "expected" if self.classes else "sample"
        alpha = self.method.alpha or 0.5
        size = 2 * self.method.num_fused
        return build_process(self.method, density, graph, alpha=alpha, beta=0.0, labels=labels, batch_size=size)

    def fit(self, density: Any, y: Tensor, **options: Any) -> Fit:
        """Trains a density for two epochs."""
        given: dict[str, Any] = {"epochs": 2, "learning_rate": 0.01, "compile": False, **options}
        return fit(self.process(density, y), self.x, y, criterion=build_criterion(self.method), **given)


METHOD: Invariants[Trained] = Invariants("method")


def check_method(method: Method | str, *, skip: Collection[str] = ()) -> None:
    """Checks a method, an entry of ``METHODS`` or one to be.

    It looks at: ``"parts"`` (all that it names is there, and fits together), ``"training"``, ``"seed"``, ``"replicas"``
    (which never touch), ``"checkpoint"`` (an interrupted fit goes on to the same weights), ``"prediction"``, ``"saving"``
    (as an estimator) and ``"classes"``, on a few rows.

    Args:
        method: the method, or its name.
        skip: names of invariants that are left out.

    Raises:
        BrokenInvariant: an ``AssertionError`` that names the invariant, what was found and what was expected.
        TypeError: if it is no method.
        ValueError: if there is no method of that name.

    Example:
        >>> from pyro_probmix import Method
        >>> from pyro_probmix.testing import check_method
        >>> check_method(Method("z", "nearest", pool="linear", variance="shared"))
    """
    found = find_method(method) if isinstance(method, str) else method
    if not isinstance(found, Method):
        raise TypeError(f"check_method got {method!r}, expected a Method or its name. Try check_method('ProbMix').")
    names = [name for name, own in {**METHODS, **BEYOND}.items() if own == found]
    x = torch.randn(REPLICAS, ROWS, FEATURES, generator=torch.Generator().manual_seed(1))
    METHOD.hold(method if isinstance(method, str) else [*names, "the method"][0], Trained(found, x), skip)


@METHOD.add("parts", "the site, graph, pool, likelihood and criterion are there, and fit together")
def _parts(s: Trained) -> None:
    m = s.method
    known: list[tuple[str, Any, Any]] = [
        ("site", m.site, ("x", "z", "y", None)),
        ("graph", m.graph, (*GRAPHS, None)),
        ("pool", m.pool, get_args(Pool)),
        ("variance", m.variance, ("shared", "separate", None)),
        ("similarity", m.similarity, ("x", "y", None)),
        ("pseudo_rows", m.pseudo_rows, (*PSEUDO_ROWS, None)),
        ("likelihood", m.likelihood, (*LIKELIHOODS, None)),
        ("criterion", m.criterion, (*CRITERIA, None)),
    ]
    for name, value, possible in known:
        demand(value in possible, f"{name}={value!r}", f"one of {', '.join(map(repr, possible))}")
    demand(
        (m.site is None) == (m.graph is None),
        f"site={m.site!r} beside graph={m.graph!r}",
        "both, or neither where nothing is fused",
    )
    demand(m.num_fused >= 2, f"num_fused={m.num_fused}", "at least 2")
    demand(m.site is not None or not m.add_unfused_rows, "add_unfused_rows=True with site=None", "a site that is fused")
    demand(m.alpha is None or m.alpha > 0, f"alpha={m.alpha}", "a number above 0")
    demand(m.draws is None or min(m.draws) >= 1, f"draws={m.draws}", "two numbers of at least 1")
    demand(m.members >= 1, f"members={m.members}", "at least 1")


@METHOD.add("training", "losses are finite, and each part of the density is trained")
def _training(s: Trained) -> None:
    density, y = s.density(), s.responses()
    before = {name: p.detach().clone() for name, p in density.named_parameters()}
    loss = s.fit(density, y).train_loss
    demand(loss.isfinite().all(), f"a loss of {loss[~loss.isfinite()][:1].tolist()}", "finite ones")
    for name, p in density.named_parameters():
        demand(p.isfinite().all(), f"{name} that is not finite after training", "finite numbers")
        demand(not torch.equal(p, before[name]), f"{name} as it was before training", "another value")


def _same_weights(one: Any, other: Any, when: str) -> None:
    for name, value in one.state_dict().items():
        demand(torch.equal(value, other.state_dict()[name]), f"another {name} {when}", "the same, bit for bit")


@METHOD.add("seed", "training follows from its seed: the same one gives the same weights")
def _seed(s: Trained) -> None:
    y, densities = s.responses(), list[Any]()
    for state in (1, 2):
        torch.default_generator.manual_seed(state)  # which a fit does not use
        densities.append(s.density())
        s.fit(densities[-1], y, seed=5)
    _same_weights(densities[0], densities[1], "from the same seed")


@METHOD.add("replicas", "a replica that is at NaN leaves the training of the others as it is")
def _replicas(s: Trained) -> None:
    y = s.responses()
    trained = []
    for ill in (False, True):
        density = s.density()
        if ill:
            with torch.no_grad():
                for p in density.parameters():
                    p[1] = torch.nan
        with warnings.catch_warnings(), pyro.validation_enabled(False):
            warnings.filterwarnings("ignore", "the loss was not finite", RuntimeWarning)
            loss = s.fit(density, y).train_loss[:, 0]
        trained.append((loss, density.state_dict()))
    (loss, weights), (beside, own) = trained
    demand_close(beside, loss, "a loss beside a replica at NaN", "that without", 1e-6, 1e-6)
    for name, value in weights.items():
        if value.dim() and len(value) == REPLICAS:
            demand_close(own[name][0], value[0], f"{name} beside a replica at NaN", "that without", 1e-6, 1e-6)


@METHOD.add("checkpoint", "a fit that was interrupted goes on from its checkpoint to the same weights")
def _checkpoint(s: Trained) -> None:
    y, whole, resumed = s.responses(), s.density(), s.density()
    s.fit(whole, y)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.safetensors"
        s.fit(resumed, y, checkpoint=Checkpoint(path, seconds=0), on_epoch=lambda epoch, best: epoch == 1)
        resumed = s.density()
        s.fit(resumed, y, checkpoint=Checkpoint(path, seconds=0))
    _same_weights(whole, resumed, "after an interruption")


@METHOD.add("prediction", "predict gives a density for each new row, with finite log densities")
def _prediction(s: Trained) -> None:
    density, y = s.density(), s.responses()
    s.fit(density, y)
    torch.default_generator.manual_seed(0)
    p = predict(density, s.x[0, :7], num_samples=5)
    wanted = (REPLICAS, 7)
    demand(tuple(p.batch_shape) == wanted, f"batch shape {tuple(p.batch_shape)}", f"{wanted}")
    score = p.log_prob(y[0, :7])
    demand(score.isfinite().all(), "a log density that is not finite", "finite ones")
    score = predict(density, s.x[0, :7], num_samples=5, ensemble=True).log_prob(y[0, :7])
    demand(tuple(score.shape) == (7,), f"log densities of the ensemble of shape {tuple(score.shape)}", "(7,)")


@METHOD.add(
    "saving", "an estimator with this method fits, predicts, and predicts the same after it was saved and loaded"
)
def _saving(s: Trained) -> None:
    if s.method.members > 1:
        return  # whose number is the estimator's own
    made = ProbMixClassifier if s.classes else ProbMixRegressor
    _fit_and_load(made, s.method, s.responses()[0].reshape(ROWS).numpy())


@METHOD.add("classes", "it trains on classes, too, unless it is made for regression")
def _classes(s: Trained) -> None:
    if s.method.members > 1 or only_regression(s.method) or s.method.graph == "label-kernel":
        return
    probs = _fit_and_load(ProbMixClassifier, s.method, np.arange(ROWS) % CLASSES)
    if probs.shape != (ROWS, CLASSES) or not np.allclose(probs.sum(1), 1, atol=1e-5):
        refuse(
            f"class probabilities of shape {probs.shape} that sum to {probs.sum(1).min():.6g}",
            "a sum of 1 for each row",
        )


def _fit_and_load(made: Any, method: Method, y: Any) -> Any:
    """Predictions of an estimator on a few rows, after a look that they stay the same through a file."""
    x = np.random.default_rng(0).normal(size=(ROWS, FEATURES))
    size = 2 * method.num_fused
    model = made(
        method=method, ensemble=2, widths=(8, 4), epochs=1, batch_size=size, num_samples=3, neighbors=3, random_state=0,
        device="cpu", validation_fraction=0.0,
    )  # fmt: skip
    model.fit(x, y)
    predict_rows = "predict_proba" if made is ProbMixClassifier else "predict"
    before = getattr(model, predict_rows)(x)
    demand(bool(np.isfinite(before).all()), "a prediction that is not finite", "finite ones")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        after = getattr(load(path), predict_rows)(x)
    demand(np.array_equal(before, after), "other predictions after the model was saved and loaded", "the same ones")
    return before
