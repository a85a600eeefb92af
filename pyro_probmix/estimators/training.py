"""Training all members of an ensemble together, each without the share of the rows that it holds out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
from torch import Tensor

from pyro_probmix.estimators.doubt.conformal import HeldOutScores
from pyro_probmix.estimators.doubt.repair import Losses
from pyro_probmix.estimators.ensemble.copies import copied_share, copy_scale
from pyro_probmix.estimators.ensemble.dealt_rows import DealtRows
from pyro_probmix.estimators.ensemble.healing import heal
from pyro_probmix.estimators.ensemble.held_out import HeldOut, member_densities, widened, with_tails
from pyro_probmix.estimators.ensemble.neighbor_choice import choose_pool
from pyro_probmix.estimators.ensemble.plan import Plan
from pyro_probmix.estimators.ensemble.rows import Rows
from pyro_probmix.estimators.neighbors.pool import NeighborPool
from pyro_probmix.graphs import Graph
from pyro_probmix.inference.annealing import Annealing
from pyro_probmix.inference.data.parts import Part
from pyro_probmix.inference.methods import build_criterion, build_graph, build_process
from pyro_probmix.inference.pseudo_rows import part_with_pseudo_rows
from pyro_probmix.inference.training import Fit, fit
from pyro_probmix.models import ConditionalDensity, ProbMix
from pyro_probmix.random_state import alone

__all__ = ["Trained", "train"]

#: Draws of the embedding when the epoch is chosen.
HELD_OUT_DRAWS = 2
#: At most about so many rows that a member holds out choose the epoch, and the spread.
SCORED_ROWS, WIDENING_ROWS = 1000, 4000
#: At most so many epochs' held-out NLLs, a seventh of all, are averaged: while the rate is high they scatter, and the lowest
#: of many says little.
MOST_SMOOTHING = 10
#: Rows of each share that are scored for conformal intervals, at most: more would change their coverage by less than 0.1 %.
MOST_SCORED = 20_000
#: Numbers with noise take no fewer steps than these.
NOISY_STEPS = 1150


@dataclass(frozen=True)
class Trained:
    """What a fit finds beside the weights.

    Attributes:
        history: the trainer's record.
        factor: of the spread, with the lowest loss on the held-out rows; None without such rows.
        tails: factor of the degrees of freedom, chosen alike.
        pool: with the nearest training rows, chosen alike; None for none.
        noise: of the embedding's draws in predictions; None for its mean.
        scores: of the held-out rows of numbers, for conformal intervals; None without such rows.
        losses: on the held-out rows; None without such rows.
    """

    history: Fit
    factor: float | None
    noise: Tensor | None
    scores: HeldOutScores | None
    losses: Losses | None = None
    tails: float = 1.0
    pool: NeighborPool | None = None


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
    data = DealtRows.dealt(density, rows, plan, targets, validation)
    n = data.kept.rows.shape[1]
    few = None if noise is None else noise[:HELD_OUT_DRAWS]
    smoothing = min(MOST_SMOOTHING, max(1, plan.passes(n) // 7))
    score = data.score(density, few, SCORED_ROWS, smoothing=smoothing, cells=plan.cells)
    untrained = math.nan if score is None else score.nll()
    result = _fitted(density, rows, plan, data, score, on_epoch)
    if validation is not None and not bool(result.best_epoch.any()):
        raise ValueError(
            "no member ever had a finite density at all of the validation rows, expected one that has, by which the epoch is "
            "chosen. Try leaving out rows with extreme values, or fit without them."
        )
    density.eval()
    sound = heal(density, None if score is None else score.of_each())
    noise = data.fewest_draws(density, noise, plan.most_draws)
    widening = data.score(density, noise, WIDENING_ROWS, cells=plan.cells)
    if widening is None:
        return Trained(result, None, noise, None)
    tails = widening.tails()
    factor = widening.factor(tails)
    steps = len(result.train_loss) * -(-n // plan.size(n))
    constant = data.constant(family, weighted=not rows.equal, ends=rows.ends is not None)
    losses = Losses(widening.nll(tails), constant, untrained, steps)

    def adapted(components: Any) -> Any:
        return widened(with_tails(components, tails), factor)

    def copied() -> float:
        return copied_share(density, widening.noise, data, rows.again, plan.grid, adapted)

    pool = choose_pool(widening, data.kept, plan.pooled_neighbors, adapted, copied, copy_scale(plan.grid))
    scores = None if plan.classes else _scores(widening, adapted, pool, sound, plan.deal_seed)
    return Trained(result, factor, noise, scores, losses, tails, pool)


def _fitted(
    density: ConditionalDensity,
    rows: Rows,
    plan: Plan,
    data: DealtRows,
    score: HeldOut | None,
    on_epoch: Callable[[int, int, float], bool],
) -> Fit:
    """The record of the fit by the plan, which leaves the weights of each member's best epoch in the density."""
    n = data.kept.rows.shape[1]
    epochs = plan.passes(n)
    short = epochs if score is None or plan.classes else plan.passes(n, NOISY_STEPS)
    annealing = Annealing(short, epochs)
    if score is not None and plan.patience is None:
        score.expect(short)
    stopped = False

    def after(epoch: int, best: Tensor) -> bool:
        nonlocal stopped
        annealing.look(epoch, float(best.min()))
        stopped = on_epoch(epoch, annealing.end, float(best.min())) or stopped
        if score is not None and plan.patience is None:
            # One that is stopped before its first score would keep the weights of the start: it has one more epoch.
            score.expect(epoch + 1 if stopped else annealing.end)
        return (stopped and (score is None or score.begun)) or epoch == annealing.end

    kept, weights = data.kept, data.kept_weights(rows)
    if plan.method.pseudo_rows is not None:
        kept, weights = part_with_pseudo_rows(plan.method.pseudo_rows, kept, weights, plan.seed, plan.alpha)
    graph = _graph(plan, kept)
    x, y, chosen = kept.to_train(graph)
    return fit(
        _process(plan, density, graph, plan.size(n)).to(x.device),
        x,
        y,
        epochs=epochs,
        validation=score,
        weights=weights,
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


def _process(plan: Plan, density: ConditionalDensity, graph: Graph | None, batch_size: int) -> ProbMix:
    return build_process(
        plan.method,
        density,
        graph,
        alpha=plan.alpha,
        beta=plan.beta,
        # Log-linear pools of one-hot labels have no normaliser: there, the expectation over labels is trained on.
        labels="expected" if plan.classes and plan.beta == 0 else "sample",
        batch_size=batch_size,
    )


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


def _scores(
    held_out: HeldOut, adapted: Callable[[Any], Any], pool: NeighborPool | None, sound: Tensor, seed: int
) -> HeldOutScores | None:
    """How conforming the held-out rows are, some of them where there are many.

    Args:
        held_out: the rows.
        adapted: from the members' densities to those with the tails and the spread that are predicted.
        pool: of these with neighbors; None for none.
        sound: which members are no copies of others, which may have trained on the rows, [R].
        seed: chooses the rows.
    """
    members, count = held_out.x.shape[:2]
    some: Any = slice(None)
    if count > MOST_SCORED:
        some = np.sort(np.random.default_rng(seed).permutation(count)[:MOST_SCORED])
    with alone(), pyro.validation_enabled(False):  # a member may not be finite at some row, which then does not conform
        components = member_densities(held_out.density, held_out.x[:, some], held_out.noise)
        components = adapted(components)
    shares = held_out.shares
    if pool is not None:
        components = pool.pooled(components, *pool.nearest_of_each(held_out.x[:, some], shares))
    # Rows that all members hold out are new to copies, too.
    own = [True] * members if shares == 1 else sound.tolist()
    groups = [[r for r in range(g, members, shares) if own[r]] for g in range(shares)]
    y, weights = (values[:, some].double().cpu().numpy() for values in (held_out.y, held_out.weights))
    return HeldOutScores.of(components, y, weights, groups)
