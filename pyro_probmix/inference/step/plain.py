"""The gradient of a minibatch's loss by tensors alone: no handlers of Pyro, and a pooled embedding's in closed form."""

from __future__ import annotations

__all__ = ["pooled_draw", "runs_plainly", "tensor_gradient"]

from typing import Any

import torch
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from pyro_probmix.fusing.kernels.defaults import default_kernel
from pyro_probmix.fusing.kernels.kernels import GaussianKernel, Kernel
from pyro_probmix.fusing.rows import Rows
from pyro_probmix.fusing.sites import told
from pyro_probmix.inference.criteria import ExpectedLogLikelihood
from pyro_probmix.inference.predictive.plain import is_plain
from pyro_probmix.inference.step.objective import Gradient, Objective, hold
from pyro_probmix.models.embeddings import GaussianEmbedding, PointEmbedding
from pyro_probmix.models.process import ProbMix
from pyro_probmix.pooling import pool_rows
from pyro_probmix.pooling.expectation import ExpectedLikelihood
from pyro_probmix.pooling.weights import Beta

#: How the process fuses: as by default, but for the labels.
_FUSION = {
    "num_fused": 2, "pool": "log-linear", "kernel": None, "add_unfused_rows": False, "weight_plates": (), "keep_labels": (),
    "one_weight": False,
}  # fmt: skip

#: Weights that are drawn at a time: for more of them, one step's take as long as they do at once.
MOST_AHEAD = 2**20


def runs_plainly(objective: Objective) -> bool:
    """Whether :func:`tensor_gradient` can give the gradient: of replicas of a plain density, two rows of which are fused.

    Nor may anything else have a part in a step: an effect handler around it, autocast, a hook of a module, a subclass's own
    process.
    """
    model, criterion = objective.model, objective.criterion
    density: Any = model.density
    return (
        type(model) is ProbMix
        and is_plain(density)
        and model.replicas is not None
        and not any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in density.modules())
        and not any(map(_has_hooks, (model, density, density.embedding)))
        and type(criterion) is ExpectedLogLikelihood
        and criterion.num_particles == criterion.num_embeddings == 1
        and model.at in (None, "x", "z", "y")
        and model.plates in ((), ("data",))
        and model._alpha_of is None
        and {name: value for name, value in model._fusion.items() if name != "labels"} == _FUSION
        and not objective.bf16
        and not torch.is_autocast_enabled("cpu")
        and not _PYRO_STACK
    )


def _has_hooks(module: torch.nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def tensor_gradient(
    objective: Objective, x: Tensor, y: Tensor, drawn: list[Tensor] | None = None, ahead: int = 64
) -> Gradient:
    """The gradient as :func:`~pyro_probmix.inference.step.objective.eager_gradient` gives it, up to rounding.

    Args:
        objective: one that :func:`runs_plainly`.
        x, y: all rows.
        drawn: holds the weights that are drawn ahead, for who keeps the state of a fit; None for a list of its own.
        ahead: for how many steps weights are drawn at a time, since drawing a few takes as long as a layer; for fewer where
            that were more than :data:`MOST_AHEAD` weights. With 1 the random numbers are those of the handlers.
    """
    parameters = {name: p for name, p in objective.named_parameters() if p.requires_grad}
    fused = _Fused(objective.model, [] if drawn is None else drawn, ahead)
    of_each = objective.model.of_each_replica(x, y)
    replica = torch.arange(objective.model.replicas or 1, device=x.device)[:, None]

    def gradient(rows: Tensor) -> Tensor:
        ends = fused.ends(rows)
        x_rows = x[replica, ends] if of_each[0] else x[ends]
        y_rows = y[replica, ends] if of_each[1] else y[ends]
        losses = -fused.log_prob(x_rows, y_rows).mean(-1)
        gradients = objective.gradients(losses, parameters)
        for name, parameter in parameters.items():
            hold(parameter, gradients.get(name))
        return losses.detach()

    return gradient


class _Fused:
    """A process by tensors alone.

    Args:
        model: the process.
        drawn, ahead: see :func:`tensor_gradient`.
    """

    def __init__(self, model: ProbMix, drawn: list[Tensor], ahead: int) -> None:
        self.model, self.drawn, self.ahead = model, drawn, ahead
        self.density: Any = model.density
        self._kernel: tuple[Kernel, float | Tensor] | None = None  # and the beta that it was made for
        self._alpha = model.alpha.clone()

    def ends(self, rows: Tensor) -> Tensor:
        """The rows of a step, both ends of its edges, [R, B]."""
        graph = self.model.graph
        if graph is None or self.model.at is None:
            return rows  # the halves of a shuffled minibatch are the complete graph's edges
        return graph.edges(rows).sample().movedim(-1, -2).flatten(-2)

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """The log density of the rows' perturbed labels under the fused density, [R, B]."""
        density, at = self.density, self.model.at
        if at is None:
            return _scored(density.response(x, _embedding(density)), y)
        rows = Rows("data", -1, x.shape[1], 2)
        if at == "y":
            fn = density.response(x, _embedding(density))
            own = self._weights(rows)
            with told("site 'y' cannot be fused"):
                fn = pool_rows(fn, own, shift=rows.shift, dim=-1, pool="log-linear", num_fused=2)
        else:
            own = self._weights(rows)
            if at == "x":
                fn = density.response(_convex(x, own, rows), _embedding(density))
            else:
                fn = density.response(x, _embedding(density, own, rows))
        with told("the labels of site 'y' cannot be perturbed"):
            scored = self._perturbed(fn, y, own, rows)
        return _scored(*scored)

    def _weights(self, rows: Rows) -> Tensor:
        """The weights as each row sees them, [R, B]."""
        alpha, replicas = self.model.alpha, self.model.replicas or 1
        ahead = min(self.ahead, max(1, MOST_AHEAD // (replicas * rows.size)))
        if not torch.equal(alpha, self._alpha):
            ahead = 1  # a callback changes the shapes, and may do so again before the next step
            self.drawn.clear()
        if not self.drawn or self.drawn[-1].shape[-1] != rows.size:
            drawn = Beta(alpha, alpha, validate_args=False).expand((ahead, replicas, rows.size)).sample()
            self.drawn[:] = rows.weights(drawn).unbind(0)
        return self.drawn.pop()

    def _perturbed(self, fn: Any, y: Tensor, own: Tensor, rows: Rows) -> tuple[Any, Tensor]:
        """The density that scores the perturbed labels, and those labels."""
        beta = self.model.beta if self.model._scalar_beta is None else self.model._scalar_beta
        if self._kernel is None or self._kernel[1] is not beta:
            self._kernel = default_kernel(fn, beta), beta
        kernel, _ = self._kernel
        (partner,) = rows.partners(y, fn.event_dim)
        is_point = isinstance(kernel, GaussianKernel) and isinstance(beta, float) and beta == 0
        if is_point and self.model._fusion["labels"] == "sample":
            dtype = torch.result_type(y, own)
            return fn, _between(y.to(dtype), partner.to(dtype), own)
        labels: Any = kernel.pooled(y, partner, own, fn.event_dim)
        if self.model._fusion["labels"] == "expected":
            return ExpectedLikelihood(fn, labels), y
        return fn, labels.sample()


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
        return pooled_draw(hidden, deviation, own[..., None].to(hidden), torch.randn_like(hidden))

    return embed


def _convex(values: Tensor, own: Tensor, rows: Rows) -> Tensor:
    """The point between each row and its partner."""
    (partner,) = rows.partners(values, values.dim() - own.dim())
    return _between(values, partner, own)


def _between(values: Tensor, partner: Tensor, own: Tensor) -> Tensor:
    return torch.lerp(partner, values, own.reshape(*own.shape, *(1,) * (values.dim() - own.dim())).to(values))


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
