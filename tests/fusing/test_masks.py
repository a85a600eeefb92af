"""Masks that the distribution of a response holds itself: a label that is missing reaches no other row."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import transforms
from torch import Tensor

from pyro_probmix import fuse

B = 6
PRESENT: Any = torch.tensor([[1, 1], [1, 0], [1, 1], [0, 1], [1, 1], [1, 1]], dtype=torch.bool)
ROW: Any = torch.arange(B) != 2
#: A response of a latent z, and what its log density is of z, the labels and both masks.
PLACES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "event": (
        lambda z: dist.Normal(z, 1.0).mask(PRESENT).to_event(1),
        lambda z, y, kept, _: (dist.Normal(z, 1.0).log_prob(y) * kept).sum(-1),
    ),
    "event and row": (
        lambda z: dist.Normal(z, 1.0).mask(PRESENT).to_event(1).mask(ROW),
        lambda z, y, kept, row: (dist.Normal(z, 1.0).log_prob(y) * kept).sum(-1) * row,
    ),
    "row, expanded": (
        lambda z: dist.MultivariateNormal(z, torch.eye(2).double()).mask(ROW).expand([B]),
        lambda z, y, _, row: dist.Normal(z, 1.0).log_prob(y).sum(-1) * row,
    ),
    "transformed": (
        lambda z: dist.TransformedDistribution(
            dist.Normal(z, 1.0).mask(PRESENT).to_event(1), [transforms.AffineTransform(1.0, 0.5)]
        ),
        lambda z, y, kept, _: (
            (dist.Normal(z, 1.0).log_prob((y - 1) / 0.5) * kept).sum(-1) - 2 * torch.tensor(0.5).log()
        ),
    ),
}


@pytest.mark.parametrize("num_fused", [2, 3])
@pytest.mark.parametrize("place", PLACES)
def test_a_label_that_is_missing_masks_partners_of_weight(place, num_fused):
    """The first row has all weight at its own label, and the partners of the first are masked by it all the same."""
    torch.manual_seed(0)
    x, y = torch.randn(2, B, 2, dtype=torch.float64)
    response, expected = PLACES[place]
    weight = torch.full((B, num_fused), 1 / num_fused, dtype=torch.float64)
    weight[0] = torch.eye(num_fused, dtype=torch.float64)[0]

    def model():
        with pyro.plate("rows", B):
            z = pyro.sample("z", dist.Normal(x, 1.0).to_event(1))
            pyro.sample("y", response(z), obs=y)

    given = weight[:, 0] if num_fused == 2 else weight
    trace = poutine.trace(fuse(model, at="z", weight=given, num_fused=num_fused)).get_trace()
    trace.compute_log_prob()
    site: Any = trace.nodes["y"]
    # By hand: each row with its partners, of which the first row has none.
    partners = [[(b + m * B // num_fused) % B for m in range(num_fused if b else 1)] for b in range(B)]
    kept = torch.stack([PRESENT[rows].all(0) for rows in partners])
    row = torch.stack([ROW[rows].all() for rows in partners])
    labels = torch.stack([y[rows].mean(0) for rows in partners])
    torch.testing.assert_close(site["value"], labels)
    torch.testing.assert_close(site["log_prob"], expected(trace.nodes["z"]["value"], labels, kept, row))
