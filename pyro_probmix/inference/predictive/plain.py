"""A density as a function of tensors alone: from any thread, and in single precision where that is enough."""

from __future__ import annotations

__all__ = ["GRAIN", "by_rows", "has_single", "is_plain", "plain_density"]

import copy
from typing import Any, TypeGuard

from torch import Tensor, nn

from pyro_probmix.inference.predictive.draws import CHANNELS_SECOND, shifted
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.embeddings import GaussianEmbedding, PointEmbedding
from pyro_probmix.models.layers.linear import Linear
from pyro_probmix.models.likelihoods import Likelihood
from pyro_probmix.models.periodic import PeriodicFeatures

#: Rows are predicted in whole multiples of so many: vectorised loops treat the numbers at their end in another way.
GRAIN = 32
#: Products of fewer multiplications take another way in torch.
FEW = 400


def is_plain(density: Any) -> TypeGuard[ConditionalDensity]:
    """Whether a density is a function of tensors alone: a :class:`ConditionalDensity` of modules that use nothing of Pyro."""
    if type(density) is not ConditionalDensity or type(density.embedding) not in (GaussianEmbedding, PointEmbedding):
        return False
    known = all(type(module).__module__.partition(".")[0] in ("torch", "pyro_probmix") for module in density.modules())
    after = (*density.decoder.modules(), *density.likelihood.modules())
    return known and not any(isinstance(module, CHANNELS_SECOND) for module in after)


def plain_density(density: ConditionalDensity, x: Tensor, noise: Tensor | None) -> Any:
    """The density of the response at each draw of the embedding, batch shape [S, R, N]; without handlers or random numbers.

    It is that of :func:`~pyro_probmix.inference.predictive.prediction.response_density` with the same draws.

    Args:
        density: one that :func:`is_plain`, in evaluation mode.
        x: the rows, [N, *row] or [R, N, *row].
        noise: standard normal, [S, R, 1, width], of a Gaussian embedding; None passes its mean on, and S is 1.
    """
    embedding: Any = density.embedding
    drawn = noise is not None and isinstance(embedding, GaussianEmbedding)

    def embed(x: Tensor, hidden: Tensor) -> Tensor:
        if noise is None or not drawn:
            return hidden
        return shifted(hidden, embedding.deviation(x, hidden), noise)

    fn = density.response(x, embed)
    return fn if drawn else fn.expand((1, *fn.batch_shape))


def by_rows(density: ConditionalDensity, *, single: bool) -> ConditionalDensity:
    """A copy for predictions of rows in whole multiples of :data:`GRAIN`, in which no row depends on those beside it.

    Args:
        density: in double precision; one that :func:`is_plain`, with a :class:`~pyro_probmix.models.Likelihood` if ``single``.
        single: whether its hidden layers, where nearly all the work is, run in single precision. Rows and responses stay
            double, and periodic features do: the cosine of a large number needs all its digits.
    """
    copied = copy.deepcopy(density).eval()
    if single:
        copied.encoder = _narrowed(copied.encoder)
        embedding: Any = copied.embedding
        if isinstance(embedding, GaussianEmbedding):
            embedding.scale.float()
            if embedding.variance is not None:
                embedding.variance = _narrowed(embedding.variance)
        copied.decoder.float()
        copied.likelihood = _WideHead(copied.likelihood)
    for parent in [*copied.modules()]:
        for name, layer in [*parent.named_children()]:
            if type(layer) is Linear and _depends_on_position(layer):
                setattr(parent, name, _Filled(layer))
    return copied


def has_single(density: ConditionalDensity) -> bool:
    """Whether a density can run in single precision, see :func:`by_rows`."""
    head = density.likelihood
    return is_plain(density) and isinstance(head, Likelihood) and type(head).forward is Likelihood.forward


def _depends_on_position(layer: Linear) -> bool:
    """Whether a product's last digits may depend on where a row stands, as those of odd widths and of few numbers do."""
    *_, inputs, outputs = layer.weight.shape
    return outputs % 2 == 1 or inputs * outputs * GRAIN < FEW


def _narrowed(network: nn.Module) -> nn.Module:
    """A network of double rows that computes in single precision behind its periodic features, if it begins with them."""
    if isinstance(network, nn.Sequential) and len(network) and isinstance(network[0], PeriodicFeatures):
        return nn.Sequential(network[0], _Single(), network[1:].float())
    return nn.Sequential(_Single(), network.float())


class _Filled(nn.Module):
    """A layer with columns of zeros up to a multiple of 16, which are cut off again."""

    def __init__(self, layer: Linear) -> None:
        super().__init__()
        self.width = layer.weight.shape[-1]
        self.layer = layer
        more = -self.width % 16
        for name in ("weight", "bias"):
            value = getattr(layer, name).detach()
            setattr(layer, name, nn.Parameter(nn.functional.pad(value, (0, more))))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out[..., : self.width]


class _Single(nn.Module):
    """Rounds to single precision."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


class _WideHead(nn.Module):
    """A head of features in single precision whose density is in double precision."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head
        head.linear.float()

    def forward(self, features: Tensor) -> Any:
        return self.head.density(self.head.linear(features).double())
