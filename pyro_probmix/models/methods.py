"""The named methods as data: each is a choice of where to fuse, over which graph, with which embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from pyro_probmix.arguments import checked
from pyro_probmix.fusing.messenger import Pool
from pyro_probmix.models.density import ConditionalDensity
from pyro_probmix.models.embeddings import GaussianEmbedding, PointEmbedding
from pyro_probmix.models.networks import ACTIVATIONS, MLP
from pyro_probmix.models.recurrent import LSTM
from pyro_probmix.models.transformer import Transformer

__all__ = ["METHODS", "SERIES", "Method", "build_density"]


@dataclass(frozen=True)
class Method:
    """A mixup method: where it fuses, over which graph, with which embedding, and what it is trained by.

    Attributes:
        site: where to fuse, ``"x"``, ``"z"`` or ``"y"``; None fuses nothing.
        graph: the graph whose edges are fused, a name in ``GRAPHS``; None where nothing is fused.
        pool: how to fuse.
        variance: None for a point embedding; for a Gaussian one, whether its variance network shares the encoder
            or is separate (the first layer is then halved, to keep the size comparable).
        num_fused: how many rows are fused.
        add_unfused_rows: whether the rows' own likelihood is added to the fused one.
        alpha: the shape of the weights' Beta distribution, where the method sets its own; None takes the run's.
        similarity: whose distance that shape falls with, "x" or "y", from alpha at the mean distance, see
            :class:`~pyro_probmix.models.similarity.SimilarityKernel`; None is the same for all edges.
        pseudo_rows: how as many further rows to train on are made of the rows, for each network anew, a name in
            ``pyro_probmix.inference.pseudo_rows.PSEUDO_ROWS``; None makes none.
        likelihood: a name in ``LIKELIHOODS``; None is a Gaussian, or a categorical distribution for classes.
        criterion: a name in ``CRITERIA``; None takes the run's.
        draws: K and S, draws of the weights and of an embedding for each, in the criterion; None takes the run's K, and 1.
        members: networks to an ensemble, trained together from their own initial weights, whose densities are averaged.
    """

    site: Literal["x", "z", "y"] | None = None
    graph: str | None = None
    pool: Pool = "log-linear"
    variance: Literal["shared", "separate"] | None = None
    num_fused: int = 2
    add_unfused_rows: bool = False
    alpha: float | None = None
    likelihood: str | None = None
    criterion: str | None = None
    draws: tuple[int, int] | None = None
    members: int = 1
    similarity: Literal["x", "y"] | None = None
    pseudo_rows: Literal["mixed", "anchored", "tangent"] | None = None


#: Name -> an encoder of series, made with (d, T, out_features=..., replicas=...).
SERIES: dict[str, Callable[..., nn.Module]] = {"lstm": LSTM, "transformer": Transformer}

#: The methods of the paper's tables, in their order. A line here is all that a new one needs.
METHODS: dict[str, Method] = {
    "ERM": Method(),
    "Mix": Method("x", "complete"),
    "LocMix": Method("x", "nearest"),
    "M-Mix": Method("z", "complete"),
    "LocM-Mix": Method("z", "nearest"),
    "ProbMix": Method("y", "complete"),
    "LocProbMix": Method("y", "nearest"),
    "M-ProbMix": Method("z", "complete", variance="shared"),
    "LocM-ProbMix": Method("z", "nearest", variance="shared"),
    "M-ProbMix*": Method("z", "complete", variance="separate"),
    "LocM-ProbMix*": Method("z", "nearest", variance="separate"),
}


@checked(least={"num_features": 1, "num_outputs": 1, "widths": 1, "mixing_layer": 1, "replicas": 1})
def build_density(
    method: Method,
    *,
    num_features: int | tuple[int, int],
    likelihood: Callable[[int, int, int | None], nn.Module],
    num_outputs: int = 1,
    widths: Sequence[int] = (128, 32),
    mixing_layer: int = 1,
    activation: str | Callable[[], nn.Module] = "relu",
    dropout: float = 0.0,
    network: str = "mlp",
    replicas: int | None = None,
    embedding: Mapping[str, Any] = MappingProxyType({}),
    before_activation: bool = False,
) -> ConditionalDensity:
    """Builds the conditional density p(y|x) that a method trains: encoder, embedding, decoder, likelihood.

    Args:
        method: for example ``METHODS["M-ProbMix"]``.
        num_features: d_x; for a series (T, d), so many time steps of so many numbers.
        likelihood: the head, made with (in_features, num_outputs, replicas); for example :class:`Gaussian`.
        num_outputs: d_y, or the number of classes.
        widths: widths of the hidden layers; for a series only the first counts, the width of the embedding.
        mixing_layer: the hidden layer, counted from 1, whose activations are the embedding.
        activation, dropout: see :class:`MLP`.
        network: ``"mlp"``, fully connected, or a name in ``SERIES``: that encoder's compressed features are the embedding,
            and the head follows.
        replicas: number of independent copies.
        embedding: further options of a :class:`GaussianEmbedding`: ``scale``, ``floor``, ``start``, ``layers``.
        before_activation: whether the embedding is what comes into the mixing layer's activation, which the decoder then
            begins with, and not what comes out of it.

    Raises:
        ValueError: for a mixing layer or a network that is not there, or a separate variance network of a series, or its
            embedding before an activation, which it has none of.

    Example:
        >>> from pyro_probmix.models import METHODS, Gaussian, build_density
        >>> density = build_density(METHODS["M-ProbMix*"], num_features=8, likelihood=Gaussian)
        >>> density.decoder.out_features
        32
    """
    drawn = None if method.variance is None else {"activation": activation, **embedding}
    if network != "mlp":
        if before_activation:
            raise ValueError(
                f"build_density got before_activation=True for network={network!r}, whose embedding is linear, expected "
                "False. Try network='mlp'."
            )
        return _series_density(method, num_features, likelihood, num_outputs, widths, network, replicas, drawn)
    if not isinstance(num_features, int):
        raise ValueError(
            f"build_density got num_features={num_features} for a fully connected network, expected a number. "
            f"Try network='{next(iter(SERIES))}'."
        )
    if not 1 <= mixing_layer <= len(widths):
        raise ValueError(
            f"build_density got mixing_layer={mixing_layer}, expected 1 to {len(widths)}, a layer of {tuple(widths)}. Try 1."
        )
    encoder_widths, decoder_widths = list(widths[:mixing_layer]), list(widths[mixing_layer:])
    variance = None
    if method.variance == "separate":
        encoder_widths[-1] = max(1, encoder_widths[-1] // 2)
        variance = MLP(num_features, encoder_widths[-1:], activation=activation, replicas=replicas)
    options: dict[str, Any] = {"activation": activation, "dropout": dropout, "replicas": replicas}
    encoder = MLP(num_features, encoder_widths, last_activation=not before_activation, **options)
    width = encoder.out_features
    z = PointEmbedding() if drawn is None else GaussianEmbedding(width, variance, replicas, **drawn)
    layers = MLP(width, decoder_widths, **options)
    head = likelihood(layers.out_features, num_outputs, replicas)
    decoder = layers if not before_activation else nn.Sequential(*_activation(activation, dropout), layers)
    return ConditionalDensity(encoder, z, decoder, head, replicas=replicas)


def _activation(activation: str | Callable[[], nn.Module], dropout: float) -> list[nn.Module]:
    """What follows a layer of an :class:`MLP`."""
    made = ACTIVATIONS[activation]() if isinstance(activation, str) else activation()
    return [made, nn.Dropout(dropout)] if dropout else [made]


def _series_density(
    method: Method,
    num_features: int | tuple[int, int],
    likelihood: Callable[[int, int, int | None], nn.Module],
    num_outputs: int,
    widths: Sequence[int],
    network: str,
    replicas: int | None,
    drawn: Mapping[str, Any] | None,
) -> ConditionalDensity:
    if network not in SERIES:
        raise ValueError(
            f"build_density got network={network!r}, expected 'mlp' or one of {', '.join(SERIES)}. Try network='mlp'."
        )
    if isinstance(num_features, int):
        raise ValueError(
            f"build_density got num_features={num_features} for a series, expected (time steps, numbers of each). "
            "Try num_features=(42, 4)."
        )
    if method.variance == "separate":
        raise ValueError(
            f"build_density got a separate variance network for network={network!r}, expected one that shares "
            "the encoder. Try METHODS['M-ProbMix']."
        )
    steps, size = num_features
    encoder = SERIES[network](size, steps, out_features=widths[0], replicas=replicas)
    z = PointEmbedding() if drawn is None else GaussianEmbedding(widths[0], None, replicas, **drawn)
    head = likelihood(widths[0], num_outputs, replicas)
    return ConditionalDensity(encoder, z, nn.Identity(), head, replicas=replicas, event_dim=2)
