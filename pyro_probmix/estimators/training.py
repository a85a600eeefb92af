"""Training all members of an ensemble together, each without the share of the rows that it holds out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyro
import torch
from torch import Tensor

from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.estimators.doubt.repair import Losses
from pyro_probmix.estimators.ensemble.held_out import DRAWS_ROWS, HeldOut, member_densities, widened
from pyro_probmix.estimators.ensemble.rows import Rows, deal
from pyro_probmix.estimators.targets.constant import constant_nll
from pyro_probmix.graphs import Graph
from pyro_probmix.inference.annealing import Annealing
from pyro_probmix.inference.data.parts import Part
from pyro_probmix.inference.methods import build_criterion, build_graph, build_process
from pyro_probmix.inference.training import Fit, fit
from pyro_probmix.models import ConditionalDensity, Method
from pyro_probmix.random_state import alone

__all__ = ["Plan", "train"]

#: Draws of the embedding when the epoch is chosen.
HELD_OUT_DRAWS = 2
#: At most about so many rows that a member holds out choose the epoch, and the spread.
SCORED_ROWS, WIDENING_ROWS = 1000, 4000
#: At most so many epochs' held-out NLLs, a seventh of all, are averaged: while the rate is high they scatter, and the lowest
#: of many says little.
MOST_SMOOTHING = 10
#: A member that is so many nats a row worse than the median one has failed.
FAR_OFF = 1.0
#: Without a number of epochs, training takes about as many steps as there are rows, and passes over them, in these bounds.
FEWEST_STEPS, MOST_STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 2500, 7500, 20, 500
#: Rows of each share that are scored for conformal intervals, at most: more would change their coverage by less than 0.1 %.
MOST_SCORED = 20_000
#: Numbers with noise take no fewer steps than these.
NOISY_STEPS = 1400
#: Without a batch size, a batch has a 64th of the rows, as a power of two in these bounds.
BATCH_SHARE, SMALLEST_BATCH, LARGEST_BATCH = 64, 32, 256


@dataclass(frozen=True)
class Plan:
    """How to train; see the estimators for those that are their parameters.

    Attributes:
        epochs: passes over the rows; None for about one step a row, in the bounds above.
        anneal: whether the rate falls to zero along half a cosine, or stays.
        fraction: share of the rows that a member holds out; 0 for none.
        deal_seed: deals the shares.
        seed: of the training noise.
        most_draws: of the embedding in a prediction.
        optimizer: as for :func:`~pyro_probmix.fit`.
    """

    method: Method
    alpha: float
    beta: float
    neighbors: int
    epochs: int | None
    batch_size: int | None
    learning_rate: float
    anneal: bool
    fraction: float
    patience: int | None
    classes: bool
    deal_seed: int
    seed: int
    most_draws: int
    optimizer: Callable[..., torch.optim.Optimizer]

    def size(self, n: int) -> int:
        """Rows of a step, of n in all."""
        if self.batch_size is not None:
            return self.batch_size
        share = int(2 ** round(math.log2(max(1.0, n / BATCH_SHARE))))
        size = min(max(share, SMALLEST_BATCH), LARGEST_BATCH)
        return -(-size // self.method.num_fused) * self.method.num_fused  # whole edges

    def passes(self, n: int, fewest_steps: int = FEWEST_STEPS) -> int:
        """Passes over n rows."""
        if self.epochs is not None:
            return self.epochs
        steps = min(max(n, fewest_steps), MOST_STEPS)
        return min(max(-(-steps // -(-n // self.size(n))), FEWEST_EPOCHS), MOST_EPOCHS)


@dataclass(frozen=True)
class Trained:
    """What a fit finds beside the weights.

    Attributes:
        history: the trainer's record.
        factor: of the spread, with the lowest loss on the held-out rows; None without such rows.
        noise: of the embedding's draws in predictions; None for its mean.
        scores: of the held-out rows of numbers, for conformal intervals; None without such rows.
        losses: on the held-out rows; None without such rows.
    """

    history: Fit
    factor: float | None
    noise: Tensor | None
    scores: HeldOutScores | None
    losses: Losses | None = None


def train(
    density: ConditionalDensity,
    rows: Rows,
    plan: Plan,
    targets: Callable[[Any], Tensor],
    validation: Rows | None,
    noise: Tensor | None,
    on_epoch: Callable[[int, int, float], bool],
    family: str = "",
) -> Trained:
    """Trains a density's members in place.

    Args:
        density: float32, with the members as replicas.
        rows: standardised.
        plan: how.
        targets: from the rows' ``y`` to the tensor that the density observes.
        validation: rows that all members hold out; None deals each a share of ``rows``.
        noise: of many draws, see :func:`~pyro_probmix.estimators.ensemble.held_out.member_densities`; None where no embedding
            is drawn.
        on_epoch: called with epoch, number of epochs and best held-out NLL so far; True stops.
        family: of a density without features, see :func:`~pyro_probmix.estimators.targets.constant.constant_nll`.

    Returns:
        the trainer's record, the spread, and as few draws as the held-out rows, or else the training rows, ask for.

    Raises:
        ValueError: if no member has a finite density at all of the given validation rows, or none has finite weights.
    """
    data = _Data.dealt(density, rows, plan, targets, validation)
    n = data.kept.rows.shape[1]
    batch_size, epochs = plan.size(n), plan.passes(n)
    few = None if noise is None else noise[:HELD_OUT_DRAWS]
    score = data.score(density, few, SCORED_ROWS, smoothing=min(MOST_SMOOTHING, max(1, epochs // 7)))
    untrained = math.nan if score is None else score.nll()
    short = epochs if score is None or plan.classes else plan.passes(n, NOISY_STEPS)
    annealing = Annealing(short, epochs)
    if score is not None and plan.patience is None:
        score.expect(short)

    def after(epoch: int, best: Tensor) -> bool:
        annealing.look(epoch, float(best.min()))
        if score is not None and plan.patience is None:
            score.expect(annealing.end)
        return on_epoch(epoch, annealing.end, float(best.min())) or epoch == annealing.end

    graph = _graph(plan, data.kept)
    x, y, chosen = data.kept.to_train(graph)
    process = build_process(
        plan.method,
        density,
        graph,
        alpha=plan.alpha,
        beta=plan.beta,
        # Log-linear pools of one-hot labels have no normaliser: there, the expectation over labels is trained on.
        labels="expected" if plan.classes and plan.beta == 0 else "sample",
        batch_size=batch_size,
    ).to(x.device)
    result = fit(
        process,
        x,
        y,
        epochs=epochs,
        validation=score,
        weights=data.kept_weights(rows),
        rows=chosen,
        learning_rate=plan.learning_rate,
        optimizer=plan.optimizer,
        criterion=build_criterion(plan.method),
        schedule=annealing if plan.anneal else None,
        patience=plan.patience if score is not None else None,
        seed=plan.seed,
        names=[f"member {r}" for r in range(density.replicas or 1)],
        on_epoch=after,
        plain=True,
    )
    if validation is not None and not bool(result.best_epoch.any()):
        raise ValueError(
            "no member ever had a finite density at all of the validation rows, expected one that has, by which the epoch is "
            "chosen. Try leaving out rows with extreme values, or fit without them."
        )
    density.eval()
    sound = _heal(density, None if score is None else score.of_each())
    noise = data.fewest_draws(density, noise, plan.most_draws)
    widening = data.score(density, noise, WIDENING_ROWS)
    if widening is None:
        return Trained(result, None, noise, None)
    factor = widening.factor()
    steps = len(result.train_loss) * -(-n // batch_size)
    losses = Losses(widening.nll(), data.constant(family, weighted=not rows.equal), untrained, steps)
    scores = None if plan.classes else _scores(widening, factor, sound, plan.deal_seed)
    return Trained(result, factor, noise, scores, losses)


@dataclass(frozen=True, eq=False)
class _Data:
    """The rows that the members train on and those that they hold out, as tensors where the density is.

    Attributes:
        kept: the training rows.
        held_out: the rows that each member holds out; None for none.
        shares: number of different shares that are held out.
    """

    kept: Part
    held_out: Part | None
    shares: int

    @classmethod
    def dealt(
        cls,
        density: ConditionalDensity,
        rows: Rows,
        plan: Plan,
        targets: Callable[[Any], Tensor],
        validation: Rows | None,
    ) -> Self:
        """Deals each member its rows; see :func:`train`."""
        members, device = density.replicas or 1, next(density.parameters()).device

        def tensors(part: Rows) -> tuple[Tensor, Tensor, Tensor]:
            x, y = torch.as_tensor(part.x, dtype=torch.float32), targets(part.y)
            found = x, y.float() if y.is_floating_point() else y, torch.as_tensor(part.weights)
            return tuple(v.to(device) for v in found)  # type: ignore[return-value] # three

        dealt = None
        if validation is None and plan.fraction > 0:
            dealt = deal(rows, plan.fraction, members, plan.classes, np.random.default_rng(plan.deal_seed))
        together = tensors(rows)
        if dealt is None:
            held_out = None if validation is None else Part.of_all(tensors(validation), members)
            return cls(Part.of_all(together, members), held_out, 1)
        kept, left_out = (torch.as_tensor(positions, device=device) for positions in dealt[:2])
        return cls(Part(*together, kept), Part(*together, left_out), dealt[2])

    def kept_weights(self, rows: Rows) -> Tensor | None:
        """The weights of the training rows, [R, m]; None for equal ones."""
        return None if rows.equal else self.kept.of_each_weight().float()

    def score(self, density: ConditionalDensity, noise: Tensor | None, rows: int, **options: Any) -> HeldOut | None:
        """The loss of at most so many rows that each member holds out, by draws of the embedding with this noise."""
        if self.held_out is None:
            return None
        here = None if noise is None else noise.float().to(self.kept.x.device)
        return HeldOut(density, *self.held_out.spread(rows), self.shares, here, **options)

    def fewest_draws(self, density: ConditionalDensity, many: Tensor | None, most: int) -> Tensor | None:
        """The noise of as few draws as predictions need, chosen on held-out rows, or on training rows where there are none."""
        if many is None:
            return None
        if self.held_out is None:
            x, y, weights = self.kept.spread(DRAWS_ROWS)
            weights = torch.ones_like(weights)
        else:
            x, y, weights = self.held_out.of_each(slice(DRAWS_ROWS))
        score = HeldOut(density, x, y, weights, self.shares, None)
        draws = score.fewest_draws(many.float().to(x.device), most)
        return many[:draws] if draws else None

    def constant(self, family: str, *, weighted: bool) -> float | None:
        """The NLL of the held-out rows under a density without features of some family, in nats a row."""
        if self.held_out is None:
            return None
        found = []
        for r in range(self.shares):  # member r holds out share r
            (y, weights), (held, held_weights) = self.kept.responses(r), self.held_out.responses(r)
            weights = weights.float() if weighted else torch.ones(len(y))
            parts = (part.double().cpu().numpy() for part in (y, weights, held, held_weights))
            found.append(constant_nll(family, *parts))
        known = [nll for nll in found if nll is not None]
        return sum(known) / len(known) if len(known) == len(found) else None


def _graph(plan: Plan, kept: Part) -> Graph | None:
    name, n = plan.method.graph, kept.rows.shape[1]
    other = "label-kernel" if plan.classes else "same-class"
    if name == other:
        raise ValueError(
            f"the method's graph {name!r} is not one for {'classes' if plan.classes else 'a regression'}, expected "
            f"'complete' or 'nearest', or {'same-class' if plan.classes else 'label-kernel'!r}. Try another method."
        )
    # Without a graph a process has the complete one, of any rows; and of one row there is no other.
    if n < 2 or name in (None, "complete"):
        return None
    x, y, _ = kept.of_each()
    x = x[0].flatten(1) if kept.shared else x.flatten(2)
    return build_graph(name, x, y, neighbors=min(plan.neighbors, n - 1))


def _scores(held_out: HeldOut, factor: float, sound: Tensor, seed: int) -> HeldOutScores | None:
    """How conforming the held-out rows are, some of them where there are many.

    Args:
        held_out: the rows.
        factor: of the spread.
        sound: which members are no copies of others, which may have trained on the rows, [R].
        seed: chooses the rows.
    """
    members, count = held_out.x.shape[:2]
    some: Any = slice(None)
    if count > MOST_SCORED:
        some = np.sort(np.random.default_rng(seed).permutation(count)[:MOST_SCORED])
    with alone(), pyro.validation_enabled(False):  # a member may not be finite at some row, which then does not conform
        components = member_densities(held_out.density, held_out.x[:, some], held_out.noise)
        components = widened(components, factor) if factor != 1.0 else components
    shares = held_out.shares
    # Rows that all members hold out are new to copies, too.
    own = [True] * members if shares == 1 else sound.tolist()
    groups = [[r for r in range(g, members, shares) if own[r]] for g in range(shares)]
    y, weights = (values[:, some].double().cpu().numpy() for values in (held_out.y, held_out.weights))
    return HeldOutScores.of(components, y, weights, groups)


@torch.no_grad()
def _heal(density: ConditionalDensity, held_out: Tensor | None) -> Tensor:
    """Puts a copy of another member in the place of one whose weights are not finite, or whose training failed.

    In a mixture a member that is far off is hardly seen by the NLL, but moves the mean.

    Args:
        density: whose members are looked at.
        held_out: each member's own NLL of the rows that it holds out, [R], NaN where that is not known; None without such
            rows.

    Returns:
        which members are as they were, [R].

    Raises:
        ValueError: if none has finite weights.
    """
    parameters = [p for p in density.parameters() if p.shape[:1] == (density.replicas,)]
    sound = torch.stack([p.isfinite().flatten(1).all(1) for p in parameters]).all(0)
    if not bool(sound.any()):
        raise ValueError(
            "training reached weights that are not finite in every member, expected one without. Try a smaller "
            "learning_rate, or X and y without extreme values."
        )
    donor = int(sound.float().argmax())
    if held_out is not None and bool(held_out.isfinite().any()):
        sound &= ~(held_out > held_out.nanmedian() + FAR_OFF)
        donor = int(held_out.nan_to_num(torch.inf).argmin())
    if not bool(sound.all()):
        for parameter in parameters:
            parameter[~sound] = parameter[donor].clone()
    return sound
