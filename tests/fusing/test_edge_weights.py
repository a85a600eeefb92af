"""An edge has one weight, whatever plates its rows have inside, unless a weight for each of their members is asked for."""

from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import transforms
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.reparam import TransformReparam
from pyro.optim import ClippedAdam
from torch import Tensor, nn

from pyro_probmix import PriorGuide, ProbMix, fuse
from tests.fusing.brute_force import halves, own_weight, pooled_log_prob, run_twice

B, H, W = 4, 3, 2
WEIGHT = dist.Beta(torch.tensor(0.7, dtype=torch.float64), 0.7)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, H, W, dtype=torch.float64), torch.randn(B, H, W, dtype=torch.float64)


def pixels(x: Tensor, y: Tensor | None = None, order: tuple[str, ...] = ("rows", "height", "width")) -> None:
    """Rows of images: the plates entered in an order."""
    sizes = {"rows": (B, -3), "height": (H, -2), "width": (W, -1)}
    one, two, three = (pyro.plate(name, *sizes[name][:1], dim=sizes[name][1]) for name in order)
    with one, two, three:
        pyro.sample("y", dist.Normal(x, 1.0), obs=y)


def words(x: Tensor, y: Tensor | None = None) -> None:
    """As in latent Dirichlet allocation: documents at dim=-1, the words within at dim=-2."""
    with pyro.plate("rows", B), pyro.plate("words", H * W):
        pyro.sample("y", dist.Normal(x.reshape(B, -1).T, 1.0), obs=None if y is None else y.reshape(B, -1).T)


def times(x: Tensor, y: Tensor | None = None) -> None:
    """Time outside of the rows."""
    with pyro.plate("time", H * W, dim=-2), pyro.plate("rows", B, dim=-1):
        pyro.sample("y", dist.Normal(x.reshape(B, -1).T, 1.0), obs=None if y is None else y.reshape(B, -1).T)


PARTS = {
    "pixels": (pixels, -3),
    "pixels outside": (lambda x, y=None: pixels(x, y, ("width", "rows", "height")), -3),
    "words": (words, -1),
    "times": (times, -1),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_parts_of_a_row_share_its_weight(name, images):
    model, dim = PARTS[name]
    trace = poutine.trace(fuse(model, at="y", weight=WEIGHT, plate="rows")).get_trace(*images)
    trace.compute_log_prob()
    drawn: Any = trace.nodes["lambda"]
    assert drawn["value"].numel() == drawn["log_prob"].numel() == B
    assert [frame.name for frame in drawn["cond_indep_stack"]] == ["rows"]
    weight = drawn["value"].flatten()
    own = torch.cat([weight[: B // 2], 1 - weight[B // 2 :]]).reshape(-1, *(1,) * (-1 - dim))
    p, q = run_twice(model, "y", images)
    value: Any = trace.nodes["y"]["value"]
    torch.testing.assert_close(trace.nodes["y"]["log_prob"], pooled_log_prob(p, q, own, value))
    own = own.reshape(B, 1, 1)
    mixed = own * images[1] + (1 - own) * halves(images[1])
    torch.testing.assert_close(value.reshape(-1).sort().values, mixed.reshape(-1).sort().values)


def test_more_than_two_rows_share_weights_too(images):
    x, y = (values[:3] for values in images)

    def model():
        with pyro.plate("rows", 3, dim=-3), pyro.plate("height", H, dim=-2), pyro.plate("width", W, dim=-1):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    weight = dist.Dirichlet(torch.ones(3, dtype=torch.float64))
    trace = poutine.trace(fuse(model, at="y", weight=weight, num_fused=3, plate="rows")).get_trace()
    drawn: Any = trace.nodes["lambda"]["value"]
    assert drawn.shape == (3, 1, 1, 3)
    value: Any = trace.nodes["y"]["value"]
    # The first row sees the weights as drawn; its partners follow it.
    torch.testing.assert_close(value[0], (drawn[0, 0, 0, :, None, None] * y).sum(0))


def test_a_weight_for_each_member_of_a_plate_on_request(images):
    fused = fuse(pixels, at="y", weight=WEIGHT, plate="rows", weight_plates=["width"])
    drawn: Any = poutine.trace(fused).get_trace(*images).nodes["lambda"]
    assert drawn["value"].shape == (B, 1, W) and len(drawn["value"].unique()) == B * W
    assert {frame.name for frame in drawn["cond_indep_stack"]} == {"rows", "width"}
    everywhere = fuse(pixels, at="y", weight=WEIGHT, plate="rows", weight_plates=["height", "width"])
    assert len(poutine.trace(everywhere).get_trace(*images).nodes["lambda"]["value"].unique()) == B * H * W
    with pytest.raises(ValueError, match=r"fuse got weight_plates=3, expected .* texts\. Try"):
        fuse(pixels, at="y", weight=WEIGHT, weight_plates=3)  # type: ignore[arg-type] # the mistake


def test_a_distribution_with_a_batch_of_its_own_has_weights_for_it(images):
    """A shape for each of three heights: their weights differ."""
    weight = dist.Beta(torch.tensor([[0.5], [1.0], [50.0]], dtype=torch.float64), 1.0)
    trace = poutine.trace(fuse(pixels, at="y", weight=weight, plate="rows")).get_trace(*images)
    assert trace.nodes["lambda"]["value"].shape == (B, H, 1)


def test_each_replica_of_the_process_has_weights_of_its_own():
    class Flat(nn.Module):
        replicas = B  # as many as rows

        def forward(self, x, y=None):
            with pyro.plate("replica", B, dim=-2), pyro.plate("rows", x.shape[-2], dim=-1):
                pyro.sample("y", dist.Normal(x[..., 0], 1.0), obs=y)

    trace = poutine.trace(ProbMix(Flat(), at="y", batch_size=B)).get_trace(torch.randn(8, 1), torch.randn(8))
    weights: Any = trace.nodes["lambda"]["value"]
    assert weights.shape == (B, B) and len(weights.unique()) == B * B
    assert trace.nodes["y"]["scale"] == 8 / B


def test_masks_and_scales_inside_leave_the_weight_alone(images):
    """A subsampled plate of pixels, a mask and a tempered likelihood: the prior of the weight is that of one edge."""
    x, y = images
    mask: Any = torch.rand(B, H, 2) < 0.5

    def model():
        rows = pyro.plate("rows", 8, subsample_size=B, dim=-3)
        height, width = pyro.plate("height", H, dim=-2), pyro.plate("width", 10, subsample_size=W, dim=-1)
        with rows, height, width, poutine.mask(mask=mask), poutine.scale(scale=0.1):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    trace = poutine.trace(fuse(model, at="y", weight=WEIGHT, plate="rows")).get_trace()
    trace.compute_log_prob()
    drawn: Any = trace.nodes["lambda"]
    assert drawn["scale"] == 2 and drawn["mask"] is None
    torch.testing.assert_close(drawn["log_prob_sum"], 2 * WEIGHT.log_prob(drawn["value"]).sum())
    kept = mask & halves(mask)
    log_prob: Any = trace.nodes["y"]["log_prob"]
    assert torch.equal(log_prob != 0, kept)
    assert trace.nodes["y"]["scale"] == pytest.approx(0.1 * 2 * 5)


def test_a_response_outside_of_the_time_of_a_fused_latent_is_mixed_by_the_weight_of_its_row(images):
    x, y = images[0].reshape(B, -1).T, images[1][:, 0, 0]

    def model(x, y):
        with pyro.plate("rows", B, dim=-1):
            with pyro.plate("time", H * W, dim=-2):
                z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("y", dist.Normal(z.mean(-2), 1.0), obs=y)

    trace = poutine.trace(fuse(model, at="z", weight=0.3, plate="rows")).get_trace(x, y)
    own = own_weight(0.3, B)
    torch.testing.assert_close(trace.nodes["z"]["fn"].loc, own * x + (1 - own) * halves(x, 1))
    torch.testing.assert_close(trace.nodes["y"]["value"], own * y + (1 - own) * halves(y))
    with pytest.raises(ValueError, match=r"'y' is not in the plate 'time' of the fused site 'z'.*Try"):
        fuse(model, at="z", weight=WEIGHT, plate="rows", weight_plates=["time"])(x, y)


def test_time_steps_in_a_loop_have_their_own_sites_and_one_of_them_is_fused(images):
    """A sequential plate inside of the rows is no dimension: the weight is in the plate of the rows alone."""
    x, y = images[0][:, 0, 0], images[1][:, 0, 0]

    def model():
        with pyro.plate("rows", B):
            for t in pyro.plate("time", 2):
                pyro.sample(f"y_{t}", dist.Normal(x + t, 1.0), obs=y)

    drawn: Any = poutine.trace(fuse(model, at="y_1", weight=WEIGHT)).get_trace().nodes["lambda"]
    assert [frame.name for frame in drawn["cond_indep_stack"]] == ["rows"]


@pytest.mark.parametrize("particles", [1, 4])
def test_svi_steps_with_one_weight_for_an_edge(particles, images):
    def model(x, y):
        slope = pyro.param("slope", lambda: torch.zeros((), dtype=torch.float64))
        pixels(slope * x, y)

    fused = fuse(model, at="y", weight=WEIGHT, plate="rows")
    elbo = Trace_ELBO(particles, max_plate_nesting=3, vectorize_particles=particles > 1)
    svi = SVI(fused, PriorGuide(fused), ClippedAdam({"lr": 0.01}), elbo)
    losses = [svi.step(images[0], images[0]) for _ in range(60)]
    assert sum(losses[-20:]) < sum(losses[:20])
    pyro.clear_param_store()


def test_each_edge_has_a_weight_in_a_plate_of_any_size():
    """`pyro.plate(name, dim=-1)` without a size, whose rows the site alone counts; beside one of a size, too."""
    x, y = torch.randn(2, 4, 3, dtype=torch.float64)

    def model():
        with pyro.plate("outputs", 3, dim=-1), pyro.plate("rows", dim=-2):
            pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    for plates, shape in (((), (4, 1)), (("outputs",), (4, 3))):
        nodes = poutine.trace(
            fuse(model, at="y", weight=WEIGHT, plate="rows", weight_plates=plates)
        ).get_trace().nodes  # fmt: skip
        drawn: Any = nodes["lambda"]["value"]
        assert drawn.shape == shape
        assert len(set(drawn[:, 0].tolist())) == 4
        own = torch.cat([drawn[:2], 1 - drawn[2:]])
        fused: Any = nodes["y"]["fn"]
        torch.testing.assert_close(fused.mean, own * x + (1 - own) * x.roll(2, 0), rtol=1e-12, atol=0)


def test_a_weight_that_is_hidden_or_reparameterised_inside_is_refused(images):
    """Either would be drawn for each pixel; hidden it has no site, and reparameterised its density would count twice."""
    x, y = images
    config: Any = {"lambda": TransformReparam()}
    weight = dist.TransformedDistribution(dist.Normal(torch.zeros(()).double(), 1.0), [transforms.SigmoidTransform()])
    with pytest.raises(ValueError, match=r"weight 'lambda' is hidden inside of fuse.*Try poutine\.block\(fuse"):
        fuse(poutine.block(pixels, expose=["y"]), at="y", weight=WEIGHT, plate="rows")(x, y)
    with pytest.raises(ValueError, match=r"weight 'lambda' is reparameterised inside.*Try poutine\.reparam\(fuse"):
        fuse(poutine.reparam(pixels, config=config), at="y", weight=weight, plate="rows")(x, y)
    outside = poutine.reparam(fuse(pixels, at="y", weight=weight, plate="rows"), config=config)
    trace = poutine.trace(outside).get_trace(x, y)
    trace.compute_log_prob()
    base: Any = trace.nodes["lambda_base"]
    torch.testing.assert_close(base["log_prob"], dist.Normal(0.0, 1.0).log_prob(base["value"]))
    assert base["value"].shape == (B, 1, 1) and trace.nodes["lambda"]["log_prob_sum"] == 0
    own = torch.cat([(lam := base["value"].sigmoid())[: B // 2], 1 - lam[B // 2 :]])
    torch.testing.assert_close(trace.nodes["y"]["value"], own * y + (1 - own) * halves(y))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"weight_plates": ["columns"]}, r"weight_plates='columns'\) met no such name.*'outputs', 'rows'\. Try"),
        ({"keep_labels": "penalty"}, r"keep_labels='penalty'\) met no such name.*sites, 'y'\. Try"),
    ],
)
def test_names_that_the_model_does_not_have_are_refused(options, sentence):
    def model(x):
        with pyro.plate("rows", 4, dim=-2), pyro.plate("outputs", 2):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=x)

    with pytest.raises(ValueError, match=sentence):
        fuse(model, at="y", weight=0.5, plate="rows", **options)(torch.randn(4, 2))


def test_a_list_of_weights_is_that_of_an_array():
    weights: list[Any] = [0.1, 0.2, 0.3, 0.4]
    y = torch.arange(4.0, dtype=torch.float64)

    def model():
        with pyro.plate("rows", 4):
            pyro.sample("y", dist.Normal(y, 1.0), obs=y)

    given: Any
    for given in (weights, tuple(weights), np.array(weights)):
        value: Any = poutine.trace(fuse(model, at="y", weight=given)).get_trace().nodes["y"]["value"]
        own = y.new_tensor([0.1, 0.2, 0.7, 0.6])
        torch.testing.assert_close(value, own * y + (1 - own) * y.roll(2), rtol=1e-14, atol=0)
    for wrong in (["a"] * 4, [[0.1], [0.2, 0.3]], [0.5, 2.0]):
        with pytest.raises(ValueError, match=r"fuse got (the )?weight.*expected.*Try"):
            fuse(model, at="y", weight=wrong)
