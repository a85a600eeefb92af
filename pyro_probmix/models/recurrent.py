"""An LSTM batched over replicas, as the encoder of a series."""

from __future__ import annotations

__all__ = ["LSTM", "LSTMLayer"]

from itertools import pairwise

import torch
from torch import Tensor, nn

from pyro_probmix.arguments import checked
from pyro_probmix.models.layers.linear import Linear
from pyro_probmix.models.networks import by_replica


class LSTMLayer(nn.Module):
    r"""One layer of long short-term memory, started from zeros.

    .. math::
        (i, f, o) = \sigma(W x_t + U h_{t-1} + b), \quad g = \tanh(W_g x_t + U_g h_{t-1} + b_g), \quad
        c_t = f \odot c_{t-1} + i \odot g, \quad h_t = o \odot \tanh c_t

    Args:
        in_features: numbers of a time step.
        hidden: width of the layer.
        replicas: number R of independent copies, see :class:`~pyro_probmix.models.Linear`.

    Shape:
        [..., B, T, in] to [..., B, T, hidden]; with replicas [..., R, B, T, in], or [B, T, in] shared by them, to
        [..., R, B, T, hidden].

    References:
        Hochreiter and Schmidhuber (1997); the gates and the initial weights are those of ``torch.nn.LSTM``.

    Example:
        >>> import torch
        >>> from pyro_probmix.models import LSTMLayer
        >>> LSTMLayer(4, 8, replicas=3)(torch.zeros(5, 42, 4)).shape
        torch.Size([3, 5, 42, 8])
    """

    @checked(least={"in_features": 1, "hidden": 1, "replicas": 1})
    @checked(least={"in_features": 1, "num_steps": 1, "hidden": 1, "num_layers": 1, "out_features": 1, "replicas": 1})
    def __init__(self, in_features: int, hidden: int, replicas: int | None = None) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = Linear(in_features, 4 * hidden, replicas, bound=hidden**-0.5)
        self.recurrent = nn.Parameter(torch.empty(*(() if replicas is None else (replicas,)), hidden, 4 * hidden))
        for replica in range(replicas or 1):
            self.initialise(replica, None)

    @torch.no_grad()
    def initialise(self, replica: int, generator: torch.Generator | None) -> None:
        """Draws one replica's weights of the recurrence, uniform within 1/sqrt(hidden) of zero; the others draw their own."""
        drawn = torch.rand(self.recurrent.shape[-2:], generator=generator)
        target = self.recurrent[replica] if self.recurrent.dim() == 3 else self.recurrent
        target.copy_((2 * drawn - 1) * self.hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return by_replica(self.steps, x, self.input.weight)

    def steps(self, x: Tensor) -> Tensor:
        """The same for x [R, B, T, in], or [B, T, in] without replicas."""
        # All steps' inputs in one product, time first: what is left in the loop is the recurrence.
        steps = self.input(x.transpose(-2, -3).flatten(-3, -2)).unflatten(-2, (x.shape[-2], x.shape[-3]))
        state: tuple[Tensor, Tensor] | None = None
        outputs = []
        for gates in steps.unbind(-3):
            if state is not None:
                gates = gates + state[0] @ self.recurrent
            i, f, o, g = gates.split(self.hidden, -1)
            new = torch.sigmoid(i) * torch.tanh(g)
            cell = new if state is None else torch.sigmoid(f) * state[1] + new
            state = torch.sigmoid(o) * torch.tanh(cell), cell
            outputs.append(state[0])
        return torch.stack(outputs, -2)


class LSTM(nn.Module):
    """An LSTM encoder, batched over replicas.

    All outputs of the last of its :class:`LSTMLayer` are flattened and compressed linearly to the embedding.

    Args:
        in_features: numbers of a time step.
        num_steps: length T of a window.
        hidden: width of the layers.
        num_layers: how many.
        out_features: width of the embedding.
        replicas: number of independent copies.

    Shape:
        [..., B, T, in] to [..., B, out]; replicas as in :class:`LSTMLayer`.

    References:
        El-Laham et al. (2025), section 6.3.

    Example:
        >>> import torch
        >>> from pyro_probmix.models import LSTM
        >>> LSTM(4, num_steps=42, replicas=3)(torch.zeros(5, 42, 4)).shape
        torch.Size([3, 5, 64])
    """

    @checked(least={"in_features": 1, "num_steps": 1, "hidden": 1, "num_layers": 1, "out_features": 1, "replicas": 1})
    def __init__(
        self,
        in_features: int,
        num_steps: int,
        *,
        hidden: int = 64,
        num_layers: int = 2,
        out_features: int = 64,
        replicas: int | None = None,
    ) -> None:
        super().__init__()
        self.out_features = out_features
        widths = [in_features, *[hidden] * num_layers]
        self.layers = nn.Sequential(*(LSTMLayer(a, b, replicas) for a, b in pairwise(widths)))
        self.compression = Linear(num_steps * hidden, out_features, replicas)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.compression(self.layers(x).flatten(-2))
        return out
