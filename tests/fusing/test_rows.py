"""Which plate holds the rows of a fused site, wherever it lies among others, and when it has to be named."""

import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO
from pyro.poutine.indep_messenger import IndepMessenger
from torch import Tensor, nn

from pyro_probmix import PriorGuide, ProbMix, fuse
from tests.fusing.brute_force import halves, own_weight, pooled_log_prob, run_twice

B, OUTPUTS, WEIGHT = 6, 3, 0.3


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(B, OUTPUTS, dtype=torch.float64), torch.randn(B, OUTPUTS, dtype=torch.float64)


def rows_first(x: Tensor, y: Tensor | None = None, outer: str = "rows") -> None:
    """Rows at dim=-2 and outputs at dim=-1, either one entered first."""
    plates = {"rows": pyro.plate("rows", len(x), dim=-2), "outputs": pyro.plate("outputs", x.shape[1], dim=-1)}
    inner = "outputs" if outer == "rows" else "rows"
    with plates[outer], plates[inner]:
        pyro.sample("y", dist.Normal(x, (0.3 * x).exp()), obs=y)


def rows_last(x: Tensor, y: Tensor | None = None, outer: str = "rows") -> None:
    """Outputs at dim=-2 and rows at dim=-1."""
    plates = {"rows": pyro.plate("rows", len(x), dim=-1), "outputs": pyro.plate("outputs", x.shape[1], dim=-2)}
    inner = "outputs" if outer == "rows" else "rows"
    with plates[outer], plates[inner]:
        pyro.sample("y", dist.Normal(x.T, (0.3 * x.T).exp()), obs=None if y is None else y.T)


MODELS = {
    f"{model.__name__}, {outer} outside": (lambda x, y=None, m=model, o=outer: m(x, y, o), model is rows_last)
    for model in (rows_first, rows_last)
    for outer in ("rows", "outputs")
}


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize("name", MODELS)
def test_the_named_plate_is_fused_wherever_it_lies(name, pool, data):
    model, is_last = MODELS[name]
    x, y = data
    trace = poutine.trace(fuse(model, at="y", weight=WEIGHT, plate="rows", pool=pool)).get_trace(x, y)
    trace.compute_log_prob()
    p, q = run_twice(model, "y", (x, y))
    own = own_weight(WEIGHT, B) if is_last else own_weight(WEIGHT, B, 1)
    value: Any = trace.nodes["y"]["value"]
    torch.testing.assert_close(trace.nodes["y"]["log_prob"], pooled_log_prob(p, q, own, value, pool))
    if pool == "log-linear":
        labels = own_weight(WEIGHT, B, 1) * y + (1 - own_weight(WEIGHT, B, 1)) * halves(y)
        torch.testing.assert_close(value, labels.T if is_last else labels)


@pytest.mark.parametrize("name", MODELS)
def test_a_site_in_two_plates_asks_which_holds_the_rows(name, data):
    model, _ = MODELS[name]
    with pytest.raises(ValueError, match=r"site 'y' is in the plates .*'rows'.*one that is named\. Try plate='"):
        fuse(model, at="y", weight=WEIGHT)(*data)
    with pytest.raises(ValueError, match=r"expected the plate 'images'"):
        fuse(model, at="y", weight=WEIGHT, plate="images")(*data)


def alone(x: Tensor, y: Tensor | None = None, dim: int = -1) -> None:
    """Rows in one plate, and a slope that they share."""
    slope = pyro.sample("slope", dist.Normal(torch.ones((), dtype=x.dtype), 0.1))
    with pyro.plate("rows", len(x), dim=dim):
        pyro.sample("y", dist.Normal(slope * x[:, 0].reshape(-1, *(1,) * (-1 - dim)), 1.0), obs=y)


@pytest.mark.parametrize("dim", [-1, -2])
def test_the_only_plate_is_the_rows_at_any_dim(dim, data):
    x, y = data[0], data[1][:, :1] if dim == -2 else data[1][:, 0]
    trace = poutine.trace(fuse(alone, at="y", weight=WEIGHT)).get_trace(x, y, dim)
    own = own_weight(WEIGHT, B, -1 - dim)
    torch.testing.assert_close(trace.nodes["y"]["value"], own * y + (1 - own) * halves(y))


def test_plates_around_the_model_are_none_of_its_rows(data):
    """Vectorised particles and draws: plates of Pyro's, outside of the handler."""
    x, y = data[0], data[1][:, 0]
    fused = fuse(alone, at="y", weight=dist.Beta(torch.tensor(2.0, dtype=x.dtype), 2.0))
    loss = Trace_ELBO(num_particles=B, vectorize_particles=True, max_plate_nesting=1)  # as many as there are rows
    assert loss.loss(fused, PriorGuide(fused), x, y) > 0
    drawn = Predictive(fused, num_samples=B, parallel=True)(x)
    assert drawn["y"].shape == (B, B) and drawn["lambda"].shape == (B, B)
    with poutine.trace() as tracer, pyro.plate("particles", B, dim=-2):
        fused(x, y)
    own: Any = tracer.trace.nodes["lambda"]["value"]
    assert own.shape == (B, B)
    weight = torch.cat([own[:, : B // 2], 1 - own[:, B // 2 :]], -1)
    torch.testing.assert_close(tracer.trace.nodes["y"]["value"], weight * y + (1 - weight) * halves(y))


class Outputs(nn.Module):
    """A density of several outputs, which are a plate."""

    def __init__(self, model=rows_first, outer="rows"):
        super().__init__()
        self.model, self.outer = model, outer

    def forward(self, x, y=None):
        with pyro.plate("groups", 5):
            pyro.sample("level", dist.Normal(0.0, 1.0))
        self.model(x, y, self.outer)


@pytest.mark.parametrize("outer", ["rows", "outputs"])
@pytest.mark.parametrize("model", [rows_first, rows_last])
def test_the_process_takes_the_plate_of_its_batch(model, outer, data):
    x, y = (torch.cat([values, values.cos()]) for values in data)  # 12 rows, of which 6 are a batch
    trace = poutine.trace(ProbMix(Outputs(model, outer), at="y", batch_size=B)).get_trace(x, y)
    edge: Any = trace.nodes["edge"]["value"]
    rows, partners = edge.T.flatten(), edge.flip(-1).T.flatten()
    weights: Any = trace.nodes["lambda"]["value"]
    drawn = weights.double().reshape(-1)
    own = torch.cat([drawn[: B // 2], 1 - drawn[B // 2 :]])[:, None]
    expected = own * y[rows] + (1 - own) * y[partners]
    value: Any = trace.nodes["y"]["value"]
    torch.testing.assert_close(value.T if model is rows_last else value, expected)
    assert trace.nodes["y"]["scale"] == 2 and trace.nodes["level"]["scale"] == 1


def test_the_process_asks_where_two_plates_are_as_large_as_its_batch(data):
    x, y = data
    with pytest.raises(
        ValueError, match=r"'rows' and 'outputs' of 3 members|plates 'rows', 'outputs'.*Try plate='rows'"
    ):
        ProbMix(Outputs(), at="y", batch_size=2, plate=None)(x[:2, :2], y[:2, :2])
    trace = poutine.trace(ProbMix(Outputs(), at="y", batch_size=2, plate="rows")).get_trace(x[:2, :2], y[:2, :2])
    weights: Any = trace.nodes["lambda"]["value"]
    assert weights.shape == (2, 1)


def test_the_process_fuses_no_other_plate_than_its_rows(data):
    with pytest.raises(ValueError, match=r"'level' is in the plates 'groups', expected one of the batch's 6 rows"):
        ProbMix(Outputs(), at="level")(*data)


@pytest.mark.parametrize("batch", [(), (1,), (B,)])
@pytest.mark.parametrize("plate", [lambda: pyro.plate("rows", dim=-1), lambda: IndepMessenger("rows", B, -1)])
def test_rows_that_only_the_labels_tell(plate, batch, data):
    """Plates that do not expand a distribution, of which all rows may have one."""
    loc, y = data[0][:, 0].mean() + torch.arange(math.prod(batch)).reshape(batch), data[1][:, 0]

    def model():
        with plate():
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    trace = poutine.trace(fuse(model, at="y", weight=dist.Beta(torch.tensor(2.0).double(), 2.0))).get_trace()
    drawn: Any = trace.nodes["lambda"]["value"]
    own = torch.cat([drawn[: B // 2], 1 - drawn[B // 2 :]])
    each = loc.expand(B)
    torch.testing.assert_close(trace.nodes["y"]["value"], own * y + (1 - own) * halves(y))
    torch.testing.assert_close(trace.nodes["y"]["fn"].mean, own * each + (1 - own) * halves(each))


@pytest.mark.parametrize("named", [None, "rows"])
def test_the_process_takes_a_plate_of_any_size(named, data):
    class Density(nn.Module):
        def forward(self, x, y):
            pyro.sample("level", dist.Normal(0.0, 1.0))
            with pyro.plate("rows", dim=-2), pyro.plate("outputs", OUTPUTS, dim=-1):
                pyro.sample("y", dist.Normal(x, 1.0), obs=y)

    x, y = data
    nodes = poutine.trace(ProbMix(Density(), at="y", batch_size=4, plate=named)).get_trace(x, y).nodes
    edge: Any = nodes["edge"]["value"]
    drawn: Any = nodes["lambda"]["value"]
    own = drawn.double()[..., 0].reshape(2, 2)[..., None]  # of both ends of each edge: the anchors, then the partners

    def mixed(values: Tensor) -> Tensor:
        one, other = values[edge[:, 0]], values[edge[:, 1]]
        return torch.cat([own[0] * one + (1 - own[0]) * other, own[1] * one + (1 - own[1]) * other])

    torch.testing.assert_close(nodes["y"]["value"], mixed(y))
    fused: Any = nodes["y"]["fn"]
    torch.testing.assert_close(fused.mean, mixed(x))
    assert nodes["y"]["scale"] == B / 4 and nodes["level"]["scale"] == 1


def test_plates_that_tell_no_rows_or_lie_elsewhere_are_refused(data):
    def at_two_dims(observed):
        with pyro.plate("rows", dim=-1):
            z = pyro.sample("z", dist.Normal(torch.zeros(B), 1.0), obs=torch.zeros(B) if observed else None)
        with pyro.plate("outputs", B, dim=-1), pyro.plate("rows", dim=-2):
            pyro.sample("y", dist.Normal(z[:, None].expand(B, B), 1.0), obs=torch.zeros(B, B))

    def of_no_size():
        with pyro.plate("rows", dim=-1):
            pyro.sample("y", dist.Normal(0.0, 1.0))

    for at in ("z", ("z", "y")):
        with pytest.raises(
            ValueError, match=r"'y' has the plate 'rows' at dim=-2, the fused 'z' at dim=-1.*Try dim=-2"
        ):
            fuse(at_two_dims, at=at, weight=WEIGHT, plate="rows")(at != "z")
    with pytest.raises(
        ValueError, match=r"'y' is in the plate 'rows' without a size.*Try pyro.plate\('rows', batch_size\)"
    ):
        fuse(of_no_size, at="y", weight=WEIGHT)()


def test_a_minibatch_of_a_plate_is_its_rows(data):
    x, y = data[0][:, 0], data[1][:, 0]

    def model(x, y):
        with pyro.plate("rows", B, subsample=index):
            pyro.sample("y", dist.Normal(x[index], 1.0), obs=y[index])

    index: Any = torch.tensor([4, 1, 0, 2])
    weight = dist.Beta(torch.tensor(2.0, dtype=x.dtype), 2.0)
    trace = poutine.trace(fuse(model, at="y", weight=weight)).get_trace(x, y)
    drawn = trace.nodes["lambda"]["value"]
    own = torch.cat([drawn[:2], 1 - drawn[2:]])
    torch.testing.assert_close(trace.nodes["y"]["value"], own * y[index] + (1 - own) * halves(y[index]))
    assert trace.nodes["y"]["scale"] == trace.nodes["lambda"]["scale"] == B / 4


def test_an_odd_batch_to_be_predicted_is_one_for_the_model_before_it_was_fused(data: tuple[Tensor, Tensor]) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(x, 1.0))

    x = data[0][:5, 0]
    with pytest.raises(
        ValueError, match=r"odd batch of 5 rows.*Try an even batch size, or the model before it was fused\."
    ):
        Predictive(fuse(model, at="y", weight=WEIGHT), num_samples=2)(x)
    assert Predictive(model, num_samples=2)(x)["y"].shape == (2, 5)
