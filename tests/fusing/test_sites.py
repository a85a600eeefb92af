"""What is fused and what is a label: points, factors, several sites, and responses outside of the fused rows' plate."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.contrib.autoname import scope
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.reparam import LocScaleReparam
from pyro.optim import ClippedAdam
from torch import Tensor

from pyro_probmix import DiracKernel, PriorGuide, ProbMix, fuse
from tests.fusing.brute_force import halves, own_weight, pooled_log_prob, run_twice

B, WEIGHT = 6, 0.3
ALL: Any = torch.ones(B, dtype=torch.bool)
RANDOM_WEIGHT = dist.Beta(torch.tensor(2.0, dtype=torch.float64), 2.0)


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(B, 3, dtype=torch.float64), torch.randn(B, dtype=torch.float64)


def mixed(values: Tensor, weight: Any = WEIGHT) -> Tensor:
    own = own_weight(weight, len(values), values.dim() - 1)
    return own * values + (1 - own) * halves(values)


def drawn_weight(trace: Any, site: str = "lambda") -> Tensor:
    """Each row's own weight as it was drawn."""
    drawn: Tensor = trace.nodes[site]["value"]
    rows = len(drawn)
    return torch.cat([drawn[: rows // 2], 1 - drawn[rows // 2 :]])


# Points without event_dim


@pytest.mark.parametrize("features", [None, 3])
@pytest.mark.parametrize("event_dim", [True, False])
def test_a_deterministic_site_needs_no_event_dim(features, event_dim, data):
    x, y = data

    def model(x, y):
        with pyro.plate("rows", B):
            h = x.sum(-1) if features is None else x.tanh()
            h = pyro.deterministic("h", h, **({"event_dim": 0 if features is None else 1} if event_dim else {}))
            pyro.sample("y", dist.Normal(h if features is None else h.sum(-1), 1.0), obs=y)

    trace = poutine.trace(fuse(model, at="h", weight=WEIGHT)).get_trace(x, y)
    torch.testing.assert_close(trace.nodes["h"]["value"], mixed(x.sum(-1) if features is None else x.tanh()))
    torch.testing.assert_close(trace.nodes["y"]["value"], mixed(y))


@pytest.mark.parametrize("is_first", [True, False])
def test_the_plates_of_a_point_tell_its_event_dim(is_first, data):
    """Rows and outputs as plates, in both orders, and features to their right."""
    h = torch.randn((B, 2, 5) if is_first else (2, B, 5), dtype=torch.float64)

    def model():
        rows, outputs = (-2, -1) if is_first else (-1, -2)
        with pyro.plate("rows", B, dim=rows), pyro.plate("outputs", 2, dim=outputs):
            pyro.deterministic("h", h)

    value: Any = poutine.trace(fuse(model, at="h", weight=WEIGHT, plate="rows")).get_trace().nodes["h"]["value"]
    torch.testing.assert_close(value, mixed(h) if is_first else mixed(h.transpose(0, 1)).transpose(0, 1))


@pytest.mark.parametrize("shape", [(B, B), (2, 3), (B, 2, B)])
def test_a_point_whose_rows_may_be_elsewhere_asks_for_event_dim(shape):
    def model(**options):
        with pyro.plate("rows", B):
            return pyro.deterministic("h", torch.arange(float(torch.Size(shape).numel())).reshape(shape), **options)

    with pytest.raises(
        ValueError, match=rf"'h' is a point of shape \({shape[0]}, .*without event_dim.*Try .*event_dim="
    ):
        fuse(model, at="h", weight=WEIGHT)()
    if shape[0] == B:
        value = fuse(model, at="h", weight=0.25)(event_dim=len(shape) - 1)
        whole = model()
        torch.testing.assert_close(value[0], 0.25 * whole[0] + 0.75 * whole[B // 2])


def test_a_process_fuses_points_without_event_dim(data):
    class Model(torch.nn.Module):
        def forward(self, x, y=None):
            with pyro.plate("rows", len(x)):
                x = pyro.deterministic("x", x)
                pyro.sample("y", dist.Normal(x.sum(-1), 1.0), obs=y)

    trace = poutine.trace(ProbMix(Model(), at="x")).get_trace(*data)
    edge: Any = trace.nodes["edge"]["value"]
    own, x = drawn_weight(trace).double()[:, None], data[0]
    expected = own * x[edge.T.flatten()] + (1 - own) * x[edge.flip(-1).T.flatten()]
    torch.testing.assert_close(trace.nodes["x"]["value"], expected)


# Factors


@pytest.mark.parametrize("pool", ["log-linear", "linear"])
@pytest.mark.parametrize("wrapped", [lambda m: m, lambda m: poutine.mask(m, ALL)])
def test_a_factor_is_not_fused(pool, wrapped, data):
    x, y = data

    def model():
        with pyro.plate("rows", B):
            pyro.factor("y", dist.Normal(x.sum(-1), 1.0).log_prob(y))

    with pytest.raises(ValueError, match=r"'y' is a factor, .*Try pyro\.sample\('y', distribution, obs=y\)") as error:
        fuse(wrapped(model), at="y", weight=WEIGHT, pool=pool)()
    assert "linear" not in str(error.value)


@pytest.mark.parametrize("inside", [True, False])
def test_a_factor_after_a_fused_latent_holds_labels_or_is_kept(inside, data):
    x, y = data

    def model(penalty=False):
        with pyro.plate("rows", B) as rows:
            z = pyro.sample("z", dist.Normal(x.sum(-1), 1.0))
            term = -z.square() if penalty else dist.Normal(z, 1.0).log_prob(y)
            if inside:
                pyro.factor("term", term)
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)
        if not inside:
            pyro.factor("term", term.sum())
        return rows

    with pytest.raises(ValueError, match=r"'term' is a factor, .*cannot perturb.*keep_labels=\['term'\]"):
        fuse(model, at="z", weight=WEIGHT)()
    trace = poutine.trace(fuse(model, at="z", weight=WEIGHT, keep_labels=["term"])).get_trace(True)
    trace.compute_log_prob()
    expected = -trace.nodes["z"]["value"].square()
    torch.testing.assert_close(trace.nodes["term"]["log_prob_sum"], expected.sum())
    torch.testing.assert_close(trace.nodes["y"]["value"], mixed(y))


# Responses outside of the plate of the fused rows


def event_of_rows(x, y):
    with pyro.plate("rows", B):
        h = pyro.sample("h", dist.Normal(x.sum(-1), 1.0))
    pyro.sample("y", dist.Normal(h, 1.0).to_event(1), obs=y)


def group_effect(x, y):
    with pyro.plate("groups", 2):
        h = pyro.sample("h", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", B):
        pyro.sample("y", dist.Normal(x.sum(-1) + h[torch.arange(B) % 2], 1.0), obs=y)


def joint(x, y):
    with pyro.plate("rows", B):
        h = pyro.deterministic("h", x)
    pyro.sample("y", dist.MultivariateNormal(h.sum(-1), torch.eye(B, dtype=x.dtype)), obs=y)


def second_of_two(x, y):
    with pyro.plate("rows", B):
        h = pyro.sample("h", dist.Normal(x.sum(-1), 1.0))
        pyro.sample("first", dist.Normal(h, 1.0), obs=y)
    pyro.sample("y", dist.Normal(h.sum(), 1.0), obs=y.sum())


def other_plate(x, y):
    with pyro.plate("rows", B):
        h = pyro.sample("h", dist.Normal(x.sum(-1), 1.0))
    with pyro.plate("more", B):
        pyro.sample("y", dist.Normal(h, 1.0), obs=y)


@pytest.mark.parametrize("model", [event_of_rows, group_effect, joint, second_of_two, other_plate])
def test_a_response_outside_of_the_fused_plate_is_refused(model, data):
    with pytest.raises(
        ValueError, match=r"site 'y' is observed after the fused 'h' and outside of the plate '\w+'.*Try"
    ):
        fuse(model, at="h", weight=WEIGHT)(*data)


def test_labels_that_do_not_depend_on_the_latent_are_kept_on_request(data):
    x, y = data

    def two_tables(x, y):
        with pyro.plate("rows", B):
            z = pyro.sample("z", dist.Normal(x.sum(-1), 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)
        with pyro.plate("others", 3):
            pyro.sample("c", dist.Normal(0.0, 1.0), obs=y[:3])

    fused = fuse(two_tables, at="z", weight=WEIGHT, keep_labels=["c"])
    trace = poutine.trace(fused).get_trace(x, y)
    torch.testing.assert_close(trace.nodes["y"]["value"], mixed(y))
    torch.testing.assert_close(trace.nodes["c"]["value"], y[:3])
    # Of a fused response the labels are its own: others are kept without being named.
    trace = poutine.trace(fuse(two_tables, at="y", weight=WEIGHT)).get_trace(x, y)
    torch.testing.assert_close(trace.nodes["c"]["value"], y[:3])


def test_a_latent_that_is_reparameterised_inside_is_no_response(data):
    """Pyro makes it an observed point; its value is no label to be mixed."""
    x, y = data

    def model(x, y):
        with pyro.plate("rows", B):
            z = pyro.sample("z", dist.Normal(x.sum(-1), 1.0))
            u = pyro.sample("u", dist.Normal(z, 2.0))
            pyro.sample("y", dist.Normal(u, 1.0), obs=y)

    config: dict[str, Any] = {"u": LocScaleReparam(0.0)}
    trace = poutine.trace(fuse(poutine.reparam(model, config), at="z", weight=WEIGHT)).get_trace(x, y)
    expected = trace.nodes["z"]["value"] + 2 * trace.nodes["u_decentered"]["value"]
    torch.testing.assert_close(trace.nodes["u"]["value"], expected)
    torch.testing.assert_close(trace.nodes["y"]["value"], mixed(y))


def test_a_second_response_that_is_observed_outside_is_refused(data):
    x, y = data

    def model(x, y):
        with pyro.plate("rows", B):
            z = pyro.sample("z", dist.Normal(x.sum(-1), 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)
            pyro.sample("c", dist.Normal(z, 2.0))

    fused = fuse(model, at="z", weight=WEIGHT)
    with pytest.raises(ValueError, match=r"'c' was observed outside fuse\(at='z'\).*Try fuse\(poutine\.condition"):
        poutine.condition(fused, {"c": y})(x, y)
    trace = poutine.trace(fuse(poutine.condition(model, {"c": y}), at="z", weight=WEIGHT)).get_trace(x, y)
    torch.testing.assert_close(trace.nodes["c"]["value"], mixed(y))
    # Draws of all latents are no labels.
    posterior = PriorGuide(fuse(model, at="z", weight=RANDOM_WEIGHT))
    assert Predictive(fuse(model, at="z", weight=RANDOM_WEIGHT), guide=posterior, num_samples=3)(x, y)["c"].shape == (
        3,
        B,
    )


# Several sites


def tasks(x, y, c):
    slope = pyro.sample("slope", dist.Normal(torch.ones(3, dtype=x.dtype), 0.1).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(x @ slope, (0.2 * x[:, 0]).exp()), obs=y)
        pyro.sample("c", dist.Bernoulli(logits=x @ slope), obs=c)


WAYS = {
    "names": lambda model: fuse(model, at=("y", "c"), weight=RANDOM_WEIGHT),
    "pattern": lambda model: fuse(model, at=["y*", "c"], weight=RANDOM_WEIGHT),
    "nested": lambda model: fuse(fuse(model, at="y", weight=RANDOM_WEIGHT), at="c", weight=RANDOM_WEIGHT),
    "nested the other way": lambda model: fuse(fuse(model, at="c", weight=RANDOM_WEIGHT), at="y", weight=RANDOM_WEIGHT),
}


@pytest.mark.parametrize("way", WAYS)
def test_two_responses_share_the_weight_of_an_edge(way, data):
    x, y = data
    c = (y > 0).double()
    slope = torch.ones(3, dtype=x.dtype)
    given = poutine.condition(tasks, {"slope": slope})
    trace = poutine.trace(WAYS[way](given)).get_trace(x, y, c)
    trace.compute_log_prob()
    assert [name for name in trace.nodes if name.startswith("lambda")] == ["lambda"]
    own = drawn_weight(trace)
    for site in ("y", "c"):
        p, q = run_twice(given, site, (x, y, c))
        value: Any = trace.nodes[site]["value"]
        torch.testing.assert_close(trace.nodes[site]["log_prob"], pooled_log_prob(p, q, own, value))
    torch.testing.assert_close(trace.nodes["y"]["value"], own * y + (1 - own) * halves(y))
    assert bool(((trace.nodes["c"]["value"] == c) | (trace.nodes["c"]["value"] == halves(c))).all())


@pytest.mark.parametrize("way", WAYS)
def test_svi_steps_with_two_fused_responses(way, data):
    x, y = data
    fused = WAYS[way](tasks)
    svi = SVI(fused, PriorGuide(fused, AutoNormal(tasks)), ClippedAdam({"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(x, y, (y > 0).double()) for _ in range(100)]
    assert sum(losses[-20:]) < sum(losses[:20])
    pyro.clear_param_store()


def test_time_steps_are_fused_by_a_pattern(data):
    """A chain of latents, all fused, with a response at each step: one weight for a row's whole series."""
    x, y = data

    def model():
        with pyro.plate("rows", B):
            z = torch.zeros(B, dtype=torch.float64)
            for t in pyro.markov(range(3)):
                z = pyro.sample(f"z_{t}", dist.Normal(0.5 * z + x[:, t], 1.0))
                pyro.sample(f"y_{t}", dist.Normal(z, 1.0), obs=y)

    trace = poutine.trace(fuse(model, at="z_*", weight=RANDOM_WEIGHT)).get_trace()
    own, z = drawn_weight(trace), torch.zeros(B, dtype=torch.float64)
    for t in range(3):
        loc = 0.5 * z + x[:, t]
        torch.testing.assert_close(trace.nodes[f"z_{t}"]["fn"].loc, own * loc + (1 - own) * halves(loc))
        torch.testing.assert_close(trace.nodes[f"y_{t}"]["value"], own * y + (1 - own) * halves(y))
        z = trace.nodes[f"z_{t}"]["value"]
    with pytest.raises(ValueError, match=r"fuse\(at='u_\*'\) met no such sample site.*'z_0'"):
        fuse(model, at=["z_*", "u_*"], weight=RANDOM_WEIGHT)()


@pytest.mark.parametrize("nested", [False, True])
def test_ragged_groups_have_weights_of_their_own(nested, data):
    sizes, y = (2, 4, 6), data[1]

    def model():
        for g, size in enumerate(sizes):
            with pyro.plate(f"group_{g}", size):
                pyro.sample(f"y_{g}", dist.Normal(torch.arange(float(size)).double(), 1.0), obs=y[:size])

    fused = fuse(model, at="y_*", weight=RANDOM_WEIGHT)
    if nested:
        fused = fuse(fuse(model, at=["y_0", "y_2"], weight=RANDOM_WEIGHT), at="y_1", weight=RANDOM_WEIGHT)
    trace = poutine.trace(fused).get_trace()
    for g, (size, site) in enumerate(zip(sizes, ("lambda", "lambda_group_1", "lambda_group_2"), strict=True)):
        own = drawn_weight(trace, site)
        torch.testing.assert_close(trace.nodes[f"y_{g}"]["value"], own * y[:size] + (1 - own) * halves(y[:size]))
    loss = Trace_ELBO().loss(fused, PriorGuide(fused))
    assert loss > 0


def test_a_latent_and_the_response_after_it_are_fused_together(data):
    """The label is mixed once, by the one weight, whether one handler fuses both or each has its own."""
    x, y = data

    def model():
        with pyro.plate("rows", B):
            z = pyro.sample("z", dist.Normal(x.sum(-1), 1.0))
            pyro.sample("y", dist.Normal(2 * z, 1.0), obs=y)

    for weight in (WEIGHT, RANDOM_WEIGHT):
        for fused in (
            fuse(model, at=("z", "y"), weight=weight),
            fuse(fuse(model, at="z", weight=weight), at="y", weight=weight),
            fuse(fuse(model, at="y", weight=weight), at="z", weight=weight),
        ):
            trace = poutine.trace(fused).get_trace()
            own = own_weight(WEIGHT, B) if weight is WEIGHT else drawn_weight(trace)
            torch.testing.assert_close(trace.nodes["y"]["value"], own * y + (1 - own) * halves(y))
            loc = 2 * trace.nodes["z"]["value"]
            torch.testing.assert_close(trace.nodes["y"]["fn"].loc, own * loc + (1 - own) * halves(loc))
    with pytest.raises(ValueError, match=r"labels of site 'y' are perturbed by two handlers of two weights.*Try"):
        fuse(fuse(model, at="z", weight=0.2), at="y", weight=0.4)()


@pytest.mark.parametrize(
    ("outer", "sentence"),
    [
        ({"plate": "columns"}, r"along the plates 'rows' and 'columns'.*the same plate in both"),
        ({"beta": 0.1}, "different beta, kernel or labels"),
        ({"kernel": DiracKernel()}, "different beta, kernel or labels"),
        ({"labels": "expected"}, "different beta, kernel or labels"),
    ],
)
def test_nested_handlers_that_would_perturb_a_label_otherwise_are_told(outer, sentence, data):
    """The label is perturbed once, by the inner one: what the outer one asks for would be left out without a word."""
    x = data[0][:, :2]

    def model():
        with pyro.plate("rows", B, dim=-2), pyro.plate("columns", 2, dim=-1):
            z = pyro.sample("z", dist.Normal(x, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=x)

    inner = fuse(model, at="z", weight=WEIGHT, plate="rows")
    with pytest.raises(ValueError, match=f"labels of site 'y' are perturbed by two handlers.*{sentence}"):
        fuse(inner, at="y", weight=WEIGHT, **{"plate": "rows", **outer})()


@pytest.mark.parametrize("at", ["z", "y"])
def test_names_that_handlers_give_are_those_that_fuse_meets(at, data):
    """`pyro.contrib.autoname.scope` outside gives sites names that the model does not have, and inside those it has."""

    def model():
        with pyro.plate("rows", B):
            z = pyro.sample("z", dist.Normal(data[0][:, 0], 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=data[1])

    for fused in (
        scope(fuse(model, at=at, weight=RANDOM_WEIGHT), prefix="m"),
        fuse(scope(model, prefix="m"), at=f"m/{at}", weight=RANDOM_WEIGHT),
    ):
        nodes = poutine.trace(fused).get_trace().nodes
        drawn: Any = nodes["m/lambda"]["value"]
        own = torch.cat([drawn[: B // 2], 1 - drawn[B // 2 :]])
        torch.testing.assert_close(nodes["m/y"]["value"], own * data[1] + (1 - own) * halves(data[1]))


def test_a_mask_between_two_handlers_is_outside_of_one(data):
    y, mask = data[1], data[1] > 0

    def model():
        with pyro.plate("rows", B):
            pyro.sample("y", dist.Normal(y, 1.0), obs=y)
            pyro.sample("c", dist.Normal(y, 1.0), obs=y)

    masked = poutine.mask(fuse(model, at="y", weight=WEIGHT), mask=mask)
    with pytest.raises(ValueError, match=r"'y' was masked outside fuse\(at='y'\)"):
        fuse(masked, at="c", weight=WEIGHT)()


def test_handlers_that_cannot_share_are_told(data):
    x, y = data
    model = lambda: tasks(x, y, (y > 0).double())  # noqa: E731
    with pytest.raises(
        ValueError, match=r"two handlers draw the weight 'lambda' from two distributions.*Try fuse\(model, at="
    ):
        fuse(
            fuse(model, at="y", weight=RANDOM_WEIGHT),
            at="c",
            weight=dist.Beta(RANDOM_WEIGHT.concentration1, RANDOM_WEIGHT.concentration0),
        )()
    with pytest.raises(ValueError, match=r"site 'y' is fused by two handlers.*Try"):
        fuse(fuse(model, at="y", weight=RANDOM_WEIGHT), at="y", weight=RANDOM_WEIGHT)()
    for at in (3, (), ["y", None]):
        with pytest.raises(ValueError, match=r"fuse got at=.*Try"):
            fuse(model, at=at, weight=0.5)  # type: ignore[arg-type] # the mistake


def test_a_process_fuses_two_responses(data):
    x, y = data

    class Model(torch.nn.Module):
        def forward(self, x, y=None):
            with pyro.plate("rows", len(x)):
                pyro.sample("a", dist.Normal(x.sum(-1), 1.0), obs=y)
                pyro.sample("b", dist.Normal(x.prod(-1), 1.0), obs=y)

    trace = poutine.trace(ProbMix(Model(), at=("a", "b"))).get_trace(x, y)
    torch.testing.assert_close(trace.nodes["a"]["value"], trace.nodes["b"]["value"])
    edge: Any = trace.nodes["edge"]["value"]
    own = drawn_weight(trace).double()
    torch.testing.assert_close(
        trace.nodes["a"]["value"], own * y[edge.T.flatten()] + (1 - own) * y[edge.flip(-1).T.flatten()]
    )


def test_interventions_at_a_fused_site(data):
    _, y = data

    def model():
        with pyro.plate("rows", len(y)):
            z = pyro.sample("z", dist.Normal(torch.zeros_like(y), 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    points: Any = {"z": torch.ones_like(y)}
    with pytest.raises(ValueError, match=r"site 'z' is set by poutine\.do outside of fuse.*Try fuse\(poutine\.do"):
        poutine.do(fuse(model, at="z", weight=WEIGHT), points)()
    trace = poutine.trace(fuse(poutine.do(model, points), at="z", weight=WEIGHT)).get_trace()
    fn: Any = trace.nodes["y"]["fn"]
    assert (fn.mean == 1).all()
    torch.testing.assert_close(trace.nodes["y"]["value"], mixed(y))
    with pytest.raises(
        ValueError, match=r"'z' is set by poutine\.do inside.*differ between the rows.*Try pyro\.deterministic"
    ):
        fuse(poutine.do(model, {"z": y}), at="z", weight=WEIGHT)()
