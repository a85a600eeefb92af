"""The likelihood of a regressor: the one that is given, or the one that fits the targets."""

from __future__ import annotations

__all__ = ["LikelihoodChoice"]

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import numpy as np

from pyro_probmix.estimators.ensemble.censoring import known_kinds
from pyro_probmix.estimators.ensemble.network import LINEAR, Likelihood, named_likelihood
from pyro_probmix.estimators.ensemble.rows import Rows
from pyro_probmix.estimators.targets.choice import KEPT_ASIDE, MEMBERS, choose, describe, pilot_epochs
from pyro_probmix.estimators.targets.kinds import FEWEST_ROWS
from pyro_probmix.estimators.targets.marks import first_mark
from pyro_probmix.models import METHODS, Method

#: Heads that are taken for targets by their values, of numbers without a probability of their own.
CONTINUOUS = ("student-t", "log-normal")


class LikelihoodChoice:
    """Takes a likelihood for the targets of a fit, by their values and by short fits to a part of the rows."""

    likelihood: Likelihood
    method: str | Method
    encoder: Any
    ensemble: int
    epochs: int | None
    batch_size: int | None
    _alike: Callable[..., Any]

    def _checked_likelihood(self, of_method: str | None) -> Likelihood:
        if of_method is not None and self.likelihood not in ("auto", of_method):
            raise ValueError(
                f"got likelihood={self.likelihood!r} and method={self.method!r}, whose likelihood is {of_method!r}, expected "
                "one of the two. Try likelihood='auto'."
            )
        likelihood: Likelihood = self.likelihood if of_method is None else of_method
        if likelihood == "categorical":
            raise ValueError(
                "ProbMixRegressor got likelihood='categorical', which is for classes, expected one for numbers. "
                "Try ProbMixClassifier."
            )
        if likelihood != "auto":
            named_likelihood(likelihood)
        return likelihood

    def _choice(self, likelihood: Likelihood, rows: Rows, seed: int, *, once: bool) -> dict[str, Any]:
        kinds = known_kinds(rows)
        if likelihood != "auto":
            choice = describe(rows.y, likelihood, kinds)
            return {"likelihood": likelihood, "unit": choice.unit, "grid": choice.grid}
        if not once and len(rows) < FEWEST_ROWS and self.encoder is None and rows.x.ndim == 2 and rows.ends is None:
            return self._linear(rows)
        # The next rows of partial fits may be of any kind.
        trial = cache(partial(self._trial, rows, seed))  # more steps are no more passes where their number is given

        def score(name: str, steps: int) -> float:
            return trial(name, self._trial_epochs(len(rows), steps))

        choice = describe(rows.y, "student-t", kinds) if once else choose(rows.y, score, kinds)
        if once:
            return {"likelihood": choice.likelihood, "grid": choice.grid}
        may_round = choice.likelihood in CONTINUOUS and rows.ends is None
        return {**asdict(choice), "marks": tuple(first_mark(column) for column in rows.y.T) if may_round else ()}

    def _linear(self, rows: Rows) -> dict[str, Any]:
        """The recipe of a Bayesian linear regression, in the place of networks that so few rows cannot be held against."""
        warnings.warn(
            f"fit got {len(rows)} distinct rows, expected at least {FEWEST_ROWS} for networks whose density is checked by rows "
            "that they do not train on. The density is that of a Bayesian linear regression. Try more rows, or a likelihood by "
            "its name, which trains networks on so few.",
            UserWarning,
            stacklevel=2,
        )
        choice = asdict(describe(rows.y, LINEAR))
        return {**choice, "method": METHODS["ERM"], "members": 1, "widths": (1,), "periodic": 0}

    def _trial_epochs(self, n: int, steps: int) -> int:
        """The passes of a trial of so many steps, of a fit to n rows."""
        size = None if self.batch_size is None else int(self.batch_size)
        epochs = pilot_epochs(n - n // KEPT_ASIDE, size, steps)
        return epochs if self.epochs is None else min(epochs, int(self.epochs))

    def _trial(self, rows: Rows, seed: int, likelihood: str, epochs: int) -> float:
        """The interval NLL of some rows, kept aside, under a short fit of a few members to the others."""
        order = np.random.default_rng(seed).permutation(len(rows))
        aside, used = (rows.take(part) for part in np.split(order, [len(rows) // KEPT_ASIDE]))
        settings = {
            "likelihood": likelihood,
            "ensemble": min(MEMBERS, int(self.ensemble)),
            "epochs": epochs,
            "patience": None, "callbacks": (), "verbose": 0, "neighbors_pool": 0,
        }  # fmt: skip
        try:
            nll: float = self._alike(settings, used, seed)._interval_nll(aside.x, aside.y, aside.weights, aside.ends)
            return nll
        except ValueError:  # not a head for these targets
            return math.inf
