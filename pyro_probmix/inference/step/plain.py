"""The gradient of a minibatch's loss by tensors alone: no handlers of Pyro, and a pooled embedding's in closed form."""

from __future__ import annotations

__all__ = ["pooled_draw", "runs_plainly", "tensor_gradient"]

from typing import Any

import torch
from torch import Tensor

from pyro_probmix.fusing.defaults import default_kernel
from pyro_probmix.fusing.rows import Rows
from pyro_probmix.inference.criteria import ExpectedLogLikelihood
from pyro_probmix.inference.predictive.plain import is_plain
from pyro_probmix.inference.step.objective import Gradient, Objective, hold
from pyro_probmix.models.embeddings import GaussianEmbedding, PointEmbedding
from pyro_probmix.models.process import ProbMix
from pyro_probmix.pooling import pool_rows
from pyro_probmix.pooling.expectation import ExpectedLikelihood
from pyro_probmix.pooling.weights import Beta


def runs_plainly(objective: Objective) -> bool:
    """Whether :func:`tensor_gradient` can give the gradient: of replicas of a plain density, two rows of which are fused."""
    model, criterion = objective.model, objective.criterion
    options = model._fusion
    return (
        is_plain(model.density)
        and model.replicas is not None
        and not any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.density.modules())
        and type(criterion) is ExpectedLogLikelihood
        and criterion.num_particles == criterion.num_embeddings == 1
        and model.at in (None, "x", "z", "y")
        and (options["num_fused"], options["pool"], options["kernel"]) == (2, "log-linear", None)
        and not options["add_unfused_rows"]
        and not options["keep_labels"]
        and not objective.bf16
    )


def tensor_gradient(objective: Objective, x: Tensor, y: Tensor) -> Gradient:
    """The gradient as :func:`~pyro_probmix.inference.step.objective.eager_gradient` gives it, up to rounding.

    The random numbers are the same, in the same order.

    Args:
        objective: one that :func:`runs_plainly`.
        x, y: all rows.
    """
    parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    model = objective.model
    of_each = model.of_each_replica(x, y)
    replica = torch.arange(model.replicas or 1, device=x.device)[:, None]

    def gradient(rows: Tensor) -> Tensor:
        if model.at is not None:
            graph = model.graph
            ends = rows if graph is None else graph.edges(rows).sample().movedim(-1, -2).flatten(-2)
        else:
            ends = rows
        x_rows = x[replica, ends] if of_each[0] else x[ends]
        y_rows = y[replica, ends] if of_each[1] else y[ends]
        losses = -_log_prob(model, x_rows, y_rows).mean(-1)
        gradients = objective.gradients(losses, parameters)
        for name, parameter in parameters.items():
            hold(parameter, gradients.get(name))
        return losses.detach()

    return gradient


def _log_prob(model: ProbMix, x: Tensor, y: Tensor) -> Tensor:
    """The log density of the rows' perturbed labels under the fused density, [R, B]."""
    density: Any = model.density
    size, at = x.shape[1], model.at
    if at is None:
        return _scored(density.response(x, _embedding(density)), y)
    alpha = model.alpha
    rows = Rows("data", -1, size, 2)

    def weights() -> Tensor:
        drawn = Beta(alpha, alpha, validate_args=False).expand((model.replicas or 1, size)).sample()
        return rows.weights(drawn)

    if at == "y":
        fn = density.response(x, _embedding(density))
        own = weights()
        fn = pool_rows(fn, own, shift=rows.shift, dim=-1, pool="log-linear", num_fused=2)
    else:
        own = weights()
        if at == "x":
            fn = density.response(_convex(x, own, rows), _embedding(density))
        else:
            fn = density.response(x, _embedding(density, own, rows))
    return _scored(*_perturbed(model, fn, y, own, rows))


def _embedding(density: Any, own: Tensor | None = None, rows: Rows | None = None) -> Any:
    """From x and the hidden features to the embedding, drawn where it is; fused with the partner's by weights, if given."""
    embedding = density.embedding

    def embed(x: Tensor, hidden: Tensor) -> Tensor:
        if isinstance(embedding, PointEmbedding):
            return hidden if own is None or rows is None else _convex(hidden, own, rows)
        assert isinstance(embedding, GaussianEmbedding)
        deviation = embedding.deviation(x, hidden)
        if own is None:
            return torch.addcmul(hidden, deviation, torch.randn_like(hidden))
        return pooled_draw(hidden, deviation, own[..., None], torch.randn_like(hidden))

    return embed


def _convex(values: Tensor, own: Tensor, rows: Rows) -> Tensor:
    """The point between each row and its partner."""
    (partner,) = rows.partners(values, values.dim() - own.dim())
    return torch.lerp(partner, values, own.reshape(*own.shape, *(1,) * (values.dim() - own.dim())))


def _perturbed(model: ProbMix, fn: Any, y: Tensor, own: Tensor, rows: Rows) -> tuple[Any, Tensor]:
    """The density that scores the perturbed labels, and those labels."""
    beta = model.beta if model._scalar_beta is None else model._scalar_beta
    kernel = default_kernel(fn, beta)
    (partner,) = rows.partners(y, fn.event_dim)
    labels: Any = kernel.pooled(y, partner, own, fn.event_dim)
    if model._fusion["labels"] == "expected":
        return ExpectedLikelihood(fn, labels), y
    return fn, labels.sample()


def _scored(fn: Any, y: Tensor) -> Tensor:
    log_prob: Tensor = fn.log_prob(y)
    return log_prob


def pooled_draw(mean: Tensor, deviation: Tensor, own: Tensor, noise: Tensor) -> Tensor:
    r"""A draw of the log-linear pool of each row's diagonal Gaussian with its partner's, b + B/2 (mod B).

    .. math::
        z_b = \frac{\lambda_b \tau_b m_b + (1 - \lambda_b) \tau_{b'} m_{b'}}{P_b} + P_b^{-1/2} \varepsilon_b, \qquad
        P_b = \lambda_b \tau_b + (1 - \lambda_b) \tau_{b'}, \quad \tau = \sigma^{-2}

    Args:
        mean, deviation: m and sigma, [..., B, width].
        own: each row's own weight, [..., B, 1].
        noise: standard normal, [..., B, width].
    """
    drawn: Tensor = _PooledDraw.apply(mean, deviation, own, noise)  # type: ignore[no-untyped-call] # torch
    return drawn


class _PooledDraw(torch.autograd.Function):
    """See :func:`pooled_draw`; the weights and the noise get no gradient."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, deviation: Tensor, own: Tensor, noise: Tensor) -> Tensor:
        precision = deviation.square().reciprocal_()
        alpha = precision * own
        total = torch.addcmul(alpha, _partners(precision), 1 - own)
        spread = total.rsqrt()
        alpha.mul_(spread).mul_(spread)  # the row's own share of the pooled precision
        other = _partners(mean)
        apart = mean - other
        ctx.save_for_backward(alpha, apart, spread, noise, deviation)
        return other.addcmul_(alpha, apart).addcmul_(spread, noise)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (g,) = gradients
        alpha, apart, spread, noise, deviation = ctx.saved_tensors
        to_own = alpha * g
        rest = g - to_own  # what goes to the partner's mean
        by_share = rest * alpha
        by_share.mul_(apart)  # of log precisions, through the share: + the row's own, - its partner's
        by_total = (noise * spread).mul_(g).mul_(-0.5)  # and through the total
        mine = by_total * alpha
        theirs = by_total.sub_(mine).sub_(by_share)
        mine.add_(by_share).add_(_partners(theirs))
        return to_own.add_(_partners(rest)), mine.mul_(-2.0).div_(deviation), None, None


def _partners(values: Tensor) -> Tensor:
    return values.roll(values.shape[-2] // 2, -2)
