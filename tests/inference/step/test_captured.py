"""Captured steps: what is replayed is the eager step, on a CPU through a stand-in for CUDA graphs, and on CUDA itself."""

import sys
import warnings
from contextlib import contextmanager
from typing import Any, cast

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyro_probmix import (
    METHODS,
    ArrayStream,
    Checkpoint,
    ExpectedLogLikelihood,
    LogExpectedLikelihood,
    NearestNeighborGraph,
    ProbMix,
    fit,
)
from pyro_probmix.inference.data import minibatches
from pyro_probmix.inference.predictive.validation import Validation
from pyro_probmix.inference.step import captured, making
from pyro_probmix.inference.step.captured import Captured
from pyro_probmix.inference.step.eager import Step
from pyro_probmix.inference.step.objective import Objective, eager_gradient
from pyro_probmix.inference.step.recorders import CudaGraphs, NumbersThere
from pyro_probmix.inference.step.replicas import Replicas
from pyro_probmix.models import LIKELIHOODS, Categorical, Gaussian, build_density
from pyro_probmix.models.orders import shuffled_rows
from tests.inference.step.tape import Tape
from tests.inference.test_training import FEATURES, N, R, data, process, weights


@pytest.fixture
def tape(monkeypatch):
    """Fits on the CPU are recorded, as on CUDA."""
    recorder = Tape()
    monkeypatch.setattr(making, "recorder_for", lambda device: recorder)
    monkeypatch.setattr(captured, "LEAST_STEPS", 0)
    return recorder


def counted(model):
    """The model with its runs in Python counted."""
    calls = [0]
    inner = model.density.forward

    def forward(*args):
        calls[0] += 1
        return inner(*args)

    model.density.forward = forward
    return model, calls


def compare(tape, make, x, y, **options):
    """Fits eagerly and by replays; the same numbers are drawn, so the results are the same."""
    eager, replayed = make(), make()
    expected = fit(eager, x, y, compile=False, **options)
    before = tape.replays
    replayed, calls = counted(replayed)
    result = fit(replayed, x, y, **options)
    assert tape.replays > before
    for field in ("train_loss", "validation_nll", "best_nll"):
        torch.testing.assert_close(
            getattr(result, field), getattr(expected, field), rtol=2e-4, atol=1e-5, equal_nan=True
        )
    assert torch.equal(result.best_epoch, expected.best_epoch)
    for key, value in weights(eager).items():
        torch.testing.assert_close(weights(replayed)[key], value, rtol=2e-4, atol=1e-5)
    assert all(torch.isfinite(p).all() for p in replayed.parameters())
    return calls[0]


@pytest.mark.parametrize("name", ["ERM", "Mix", "ProbMix", "M-ProbMix", "LocM-ProbMix*"])
def test_a_replayed_fit_is_the_eager_one(name, tape):
    x, y = data()
    calls = compare(tape, lambda: process(name), x, y, epochs=6, validation=(x, y), learning_rate=2**-7)
    # 18 steps and 6 validations, of which few are run in Python: checks, tracing, warming up, and the recording.
    assert tape.replays == 18 - 3 + 6 - 1 and len(tape.recordings) == 2 and calls <= 14


@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 0.5},
        {"learning_rate": torch.tensor([0.01, 0.02, 0.001]), "patience": 2, "epochs": 12},
        {"schedule": lambda epoch: 0.7**epoch},
        {"schedule": lambda epoch: torch.tensor([1.0, 0.5, 0.1]) if 1 < epoch < 3 else 0.5},
        {"optimizer": torch.optim.SGD},
        {"optimizer": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, dampening=0.2, nesterov=False)},
        {"optimizer": lambda p, lr: torch.optim.AdamW(p, lr=lr, fused=True, amsgrad=True)},
        {"criterion": LogExpectedLikelihood(2, 3)},
        {"bf16": True},
        {"validation": None},
        {"weights": torch.arange(float(N))},
    ],
    ids=[
        "clip",
        "rates",
        "schedule",
        "shares",
        "sgd",
        "momentum",
        "adamw",
        "draws",
        "bf16",
        "last",
        "weights",
    ],
)
def test_with_the_options_of_a_fit(options, tape):
    x, y = data()
    given: dict[str, Any] = {"epochs": 5, "validation": data(seed=1), "learning_rate": 0.01} | options
    compare(tape, lambda: process("LocM-ProbMix", alpha=torch.tensor([0.01, 0.1, 1.0])), x, y, **given)


class Normed(torch.nn.Module):
    """A density with running statistics and dropout, without replicas."""

    def __init__(self, twist: Any = lambda h, step: h):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm = torch.nn.Linear(FEATURES, 4), torch.nn.BatchNorm1d(4)
        self.out, self.dropout = torch.nn.Linear(4, 1), torch.nn.Dropout(0.2)
        self.twist, self.step = twist, 0

    def forward(self, x, y=None):
        self.step += 1
        h = self.twist(self.dropout(self.norm(self.layer(x)).relu()), self.step)
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(self.out(h), 0.5).to_event(1), obs=y)


def test_running_statistics_and_dropout(tape):
    x, y = (t[0] for t in data())
    made = []

    def make():
        made.append(ProbMix(Normed(), at="y", batch_size=8))
        return made[-1]

    compare(tape, make, x, y, epochs=6, learning_rate=0.01)
    eager, replayed = (cast(Normed, model.density).norm for model in made)
    assert eager.running_mean is not None and replayed.running_mean is not None
    torch.testing.assert_close(replayed.running_mean, eager.running_mean)
    assert replayed.num_batches_tracked == eager.num_batches_tracked == 18


def test_a_fit_on_a_stream(tape):
    x, y = (t[0].numpy() for t in data(1))
    stream = ArrayStream(x, y, block_rows=10)
    compare(tape, lambda: process("M-ProbMix", batch_size=4), stream, None, epochs=5, validation=stream)


def test_an_interrupted_fit_goes_on(tape, tmp_path):
    x, y = data()

    class Interrupted(Exception):
        pass

    def trained(path=None, stop=None):
        def on_epoch(epoch, _best):
            if epoch == stop:
                raise Interrupted

        torch.manual_seed(1)
        model = process("M-ProbMix")
        kept = None if path is None else Checkpoint(path, 0.0)
        fit(
            model,
            x,
            y,
            epochs=5,
            validation=(x, y),
            schedule=lambda epoch: 0.8**epoch,
            checkpoint=kept,
            on_epoch=on_epoch,
        )
        return weights(model)

    for stop in (1, 3):
        with pytest.raises(Interrupted):
            trained(tmp_path / "fit.safetensors", stop)
    whole, resumed = trained(), trained(tmp_path / "fit.safetensors")
    for key, value in whole.items():
        assert torch.equal(resumed[key], value)


def test_a_short_fit_is_not_captured(tape, monkeypatch):
    monkeypatch.setattr(captured, "LEAST_STEPS", 100)
    x, y = data()
    fit(process("ERM"), x, y, epochs=2)
    assert tape.replays == 0
    fit(process("ERM"), x, y, epochs=2, compile=False)
    assert tape.replays == 0


@pytest.mark.parametrize(
    "twist, why",
    [
        (lambda h, step: h if h.sum().item() > 0 else -h, "could not capture it"),
        (lambda h, step: h * step, "could not capture it: ValueError: its operations or constants change"),
    ],
    ids=["looks", "counts"],
)
def test_what_cannot_be_replayed_runs_eagerly(twist, why, tape):
    x, y = (t[0] for t in data())
    runs = []
    for options in [{"compile": False}, {}]:
        model = ProbMix(Normed(twist), at="y", batch_size=8)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runs.append(fit(model, x, y, epochs=4, **options).train_loss)  # type: ignore[arg-type]
        if not options:
            (warning,) = caught
            assert why in str(warning.message) and "Try compile=False" in str(warning.message)
            assert warning.filename == __file__  # the line that called fit
    assert tape.replays == 0
    if "constants" not in why:  # a step that counts its runs has counted those of the tracing
        torch.testing.assert_close(*runs)
    with pytest.raises(ValueError, match=r"fit\(compile=True\) could not (compile|capture) the step"):
        fit(ProbMix(Normed(twist), at="y", batch_size=8), x, y, epochs=4, compile=True)


def test_an_optimizer_that_cannot_be_captured_is_named(tape):
    x, y = data()
    with pytest.warns(RuntimeWarning, match="Adagrad is no optimizer that torch can capture, such as Adam.*Try"):
        fit(process("ERM"), x, y, epochs=2, optimizer=torch.optim.Adagrad)
    with pytest.warns(RuntimeWarning, match="Rprop looks at its rate in the first step alone, expected .*Try"):
        fit(process("ERM"), x, y, epochs=2, optimizer=torch.optim.Rprop)
    assert tape.replays == 0


def test_a_capture_that_the_device_refuses_is_one_sentence(tape, monkeypatch):
    x, y = data()

    def refuse(work):
        raise error

    monkeypatch.setattr(tape, "record", refuse)
    error = RuntimeError("operation not permitted when stream is capturing\nCompile with TORCH_USE_CUDA_DSA")
    sentence = (
        r"^fit could not capture the step: operation not permitted when stream is capturing\. Try compile=False[^\n]*$"
    )
    with pytest.raises(ValueError, match=sentence):
        fit(process("ERM"), x, y, epochs=2)
    error = torch.OutOfMemoryError("CUDA out of memory.")  # is said as such
    with pytest.raises(torch.OutOfMemoryError):
        fit(process("ERM"), x, y, epochs=2)


@pytest.mark.parametrize("at", ["gradient", "validation"])
def test_finding_that_it_waits_leaves_no_trace(at, tape, monkeypatch):
    """A model that waits as only the device shows: the check raises, and the fit is the eager one, statistics included."""
    x, y = (t[0] for t in data())
    watched = [False]

    @contextmanager
    def watch(device):
        watched[0] = True
        try:
            yield
        finally:
            watched[0] = False

    class Waiting(Normed):
        def forward(self, x, y=None):
            if watched[0] and self.training == (at == "gradient"):
                raise RuntimeError("called a synchronizing operation")
            return super().forward(x, y)

    monkeypatch.setattr(captured, "no_waiting", watch)
    models = [ProbMix(Waiting(), at="y", batch_size=8) for _ in range(2)]
    fit(models[0], x, y, epochs=3, validation=(x, y), compile=False)
    with pytest.warns(RuntimeWarning, match="runs the step eagerly, .* called a synchronizing operation.*Try"):
        fit(models[1], x, y, epochs=3, validation=(x, y))
    assert tape.replays == 0 and not models[1].training
    for first, second in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("optimizer", ["AdamW", "NAdam", "RMSprop", "Adamax", "RAdam", "Adadelta", "ASGD"])
def test_an_optimizer_of_torch_is_replayed(optimizer, tape, monkeypatch):
    """On the tape a look at the rate is an error. Torch lets these be captured on CUDA alone; here it is told otherwise."""
    own = getattr(torch.optim, optimizer)
    for kind in own.__mro__:
        if hasattr(module := sys.modules[kind.__module__], "_get_capturable_supported_devices"):
            monkeypatch.setattr(module, "_get_capturable_supported_devices", lambda supports_xla=True: ["cpu"])
    x, y = data()
    options: dict[str, Any] = {"optimizer": own, "schedule": lambda epoch: 0.9**epoch, "epochs": 4}
    replayed, eager = process("ERM"), process("ERM")
    fit(replayed, x, y, **options)
    assert tape.replays > 0
    fit(eager, x, y, compile=False, **options)
    for key, value in weights(eager).items():
        torch.testing.assert_close(weights(replayed)[key], value, rtol=1e-3, atol=1e-4)


def test_finding_out_leaves_no_trace(tape):
    """Neither in random numbers nor in running statistics: the fit that cannot be replayed is the eager one."""
    x, y = (t[0] for t in data())
    models = [ProbMix(Normed(), at="y", batch_size=8) for _ in range(2)]
    adagrad: dict[str, Any] = {"optimizer": torch.optim.Adagrad, "epochs": 3}
    fit(models[0], x, y, compile=False, **adagrad)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(captured, "_check_optimizer", lambda optimizer: None)
        patch.setattr(captured, "CapturedStep", lambda step, recorder: step)
        fit(models[1], x, y, **adagrad)
    for first, second in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        assert torch.equal(first, second)


def test_numbers_of_a_model_are_made_on_the_device():
    """A number beside tensors is filled in there, not copied from the host; its dtype is the one that torch gives it."""
    made: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            made.append(str(func))
            return func(*args, **(kwargs or {}))

    meta = torch.device("meta")
    loc = torch.zeros(3, device=meta)
    with pyro.validation_enabled(False), NumbersThere(meta), Watch():
        normal: Any = dist.Normal(loc, 0.5)
        assert normal.scale.device.type == "meta" and normal.scale.shape == (3,)
        normal.log_prob(loc)
    assert any("full" in name for name in made)
    assert not any("lift_fresh" in name or "_to_copy" in name for name in made)
    with NumbersThere(meta):
        for number in (True, 2, 0.5):
            assert torch.tensor(number, device=meta).dtype == torch.tensor(number).dtype
        assert torch.tensor(0.5, device=meta, dtype=torch.float64).dtype == torch.float64
        assert torch.tensor(0.5).item() == 0.5 and torch.tensor([1.0, 2.0]).tolist() == [1.0, 2.0]


def test_each_shape_is_recorded_once_and_results_stay():
    tape = Tape()
    total = torch.zeros(3)

    def function(x):
        total.add_(1)
        return x.sum() + total

    call = Captured(function, tape, warm_up=1)
    results = [call(torch.full((n,), 2.0)) for n in (4, 5, 4, 5, 4, 5, 4)]
    expected = [2.0 * n + k for k, n in enumerate((4, 5, 4, 5, 4, 5, 4), start=1)]
    assert [float(r[0]) for r in results] == expected
    assert len(tape.recordings) == 2 and tape.replays == 5


class Watch(TorchDispatchMode):
    """Notes what would make the host wait for the device: looks at a value, and copies from one to the other."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        looks = func is torch.ops.aten._local_scalar_dense.default
        if looks or ("copy" in str(func) and len({t.device.type for t in tensors}) > 1):
            self.waits.append(str(func))
        return result

    @contextmanager
    def made(self):
        """Notes tensors made from numbers of the host, too, which the device without values makes by itself."""
        watch = self

        class Made(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                result = func(*args, **kwargs or {})
                made = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], torch.Tensor)
                if made and result.device.type != "cpu":
                    watch.waits.append(func.__name__)
                return result

        with self, Made():
            yield self


def test_the_watch_sees_what_waits():
    with Watch().made() as watch:
        torch.as_tensor(2.0, device="meta")
        torch.zeros(3, device="meta").copy_(torch.ones(3))
        torch.ones(1).item()
        torch.full((), 2.0, device="meta") * 3
    assert len(watch.waits) == 3


CASES: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in METHODS},
    **{likelihood.__name__: {"likelihood": likelihood} for likelihood in LIKELIHOODS.values()},
    "draws": {"criterion": LogExpectedLikelihood(2, 3)},
    "bfloat16": {"bf16": True},
    "three rows": {"num_fused": 3},
    "clean, labels drawn": {"add_unfused_rows": True, "beta": 0.1},
    "a beta for each": {"beta": torch.tensor([0.0, 0.1, 0.2])},
    "expected labels": {"labels": "expected", "beta": 0.1},
    "linear": {"pool": "linear"},
}


if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_standard_gamma", "Meta"):
    # torch 2.11 cannot run draws of gammas on the device without values; on a device it can.
    META = torch.library.Library("aten", "IMPL", "Meta")
    META.impl("_standard_gamma", lambda concentration, generator=None: torch.empty_like(concentration))


@pytest.mark.parametrize("case", CASES)
def test_neither_a_step_nor_a_validation_waits_for_the_device(case):
    """Run on the device without values, where none can be looked at; a copy from the host is noted."""
    options = {"name": "M-ProbMix", "likelihood": Gaussian, "criterion": ExpectedLogLikelihood(), "bf16": False}
    options |= CASES[case]
    name, likelihood, criterion, bf16 = (options.pop(key) for key in list(options)[:4])
    method: Any = METHODS[name]  # type: ignore[index]
    density = build_density(method, num_features=2, likelihood=likelihood, num_outputs=2, widths=(6, 4), replicas=R)  # type: ignore[arg-type]
    graph = NearestNeighborGraph(torch.randn(R, N, 2), 3).to("meta") if method.graph == "nearest" else None
    model = ProbMix(density, at=method.site, graph=graph, **options).to("meta")  # type: ignore[arg-type]
    integer = likelihood is Categorical
    x, y = torch.empty(R, N, 2, device="meta"), torch.empty(R, N, *(() if integer else (2,)), device="meta")
    y = y.long() if integer else y
    replicas = Replicas(model, R)
    gradient = eager_gradient(Objective(model, criterion, replicas, N, 1.0, bf16), x, y)  # type: ignore[arg-type]
    step = Step(gradient, replicas, torch.optim.SGD(replicas.parameters, lr=0.1), fused=False)
    losses = minibatches.EpochMean()
    with pyro.validation_enabled(False), Watch().made() as watch:
        step.share = torch.empty(R, device="meta")
        for rows in shuffled_rows(N, N, R, x.device).split(12, -1):
            losses.append(step(rows))
        evaluation = Validation(model, x, y, (True, True), 4, "y", 0)
        replicas.keep_best(3, evaluation.nll(evaluation), 4)
    assert losses.value().shape == (R,) and watch.waits == []


def on_cuda(name, **options):
    x, y = (t.cuda() for t in data())
    model = process(name, x=x.cpu(), **options)
    model.cuda()
    if model.graph is not None:
        model.graph = model.graph.to("cuda")
    return model, x, y


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "schedule": lambda epoch: 0.9**epoch, "patience": 40}])
def test_on_cuda_a_captured_fit_is_the_eager_one(name, options):
    runs = []
    for compile in (False, "auto"):
        torch.manual_seed(0)
        model, x, y = on_cuda(name)
        result = fit(model, x, y, epochs=80, validation=(x, y), learning_rate=0.005, compile=compile, **options)
        runs.append((result, weights(model)))
    # Atomic sums and other kernels round otherwise; over 240 steps that grows.
    for field in ("train_loss", "validation_nll"):
        first, second = (getattr(result, field)[:10] for result, _ in runs)
        torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(runs[1][0].best_nll, runs[0][0].best_nll, rtol=0.05, atol=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_on_cuda_the_loop_does_not_wait(name):
    """From the epoch on in which everything is recorded to the last, validation included."""
    model, x, y = on_cuda(name)

    def on_epoch(epoch, _best):
        torch.cuda.set_sync_debug_mode("error" if 70 <= epoch < 79 else "default")

    try:
        result = fit(
            model, x, y, epochs=80, validation=(x, y), learning_rate=torch.tensor([0.01, 0.02, 0.01]), on_epoch=on_epoch,
            schedule=lambda epoch: 0.99**epoch,
        )  # fmt: skip
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result.diverged == () and len(result.train_loss) == 80


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "NAdam", "RMSprop", "Adamax", "RAdam", "Adadelta"])
def test_on_cuda_with_an_optimizer_of_torch(optimizer):
    curves = []
    for compile in (False, "auto"):
        torch.manual_seed(0)
        model, x, y = on_cuda("ProbMix")
        own = getattr(torch.optim, optimizer)
        fitted = fit(model, x, y, epochs=80, optimizer=own, schedule=lambda epoch: 0.9**epoch, compile=compile)
        curves.append(fitted.train_loss[:20])
    torch.testing.assert_close(*curves, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_on_cuda_each_replay_draws_anew():
    call = Captured(lambda x: x + torch.rand(3, device="cuda"), CudaGraphs(torch.device("cuda")), warm_up=1)
    torch.cuda.manual_seed(0)
    x = torch.zeros(3, device="cuda")
    replayed = torch.stack([call(x) for _ in range(6)])
    torch.cuda.manual_seed(0)
    assert torch.equal(replayed, torch.stack([torch.rand(3, device="cuda") for _ in range(6)]))
    assert len(replayed.unique()) == 18


@pytest.mark.gpu
def test_on_cuda_a_model_that_waits_runs_eagerly():
    x, y = (t[0].cuda() for t in data())
    model = ProbMix(Normed(lambda h, step: h if h.sum().item() > 0 else -h), at="y", batch_size=8).cuda()
    with pytest.warns(RuntimeWarning, match="could not capture it"):
        fit(model, x, y, epochs=100)


@pytest.mark.gpu
def test_on_cuda_a_model_with_numbers_is_captured(recwarn):
    x, y = (t[0].cuda() for t in data())
    fit(ProbMix(Normed(lambda h, step: dist.Normal(h, 0.5).mean), at="y", batch_size=8).cuda(), x, y, epochs=100)
    assert not [w for w in recwarn if "could not capture" in str(w.message)]


@pytest.mark.gpu
def test_on_cuda_an_interrupted_fit_goes_on(tmp_path):
    def trained(path=None, stop=None):
        torch.manual_seed(1)
        model, x, y = on_cuda("M-ProbMix")
        kept = None if path is None else Checkpoint(path, 0.0)
        fit(model, x, y, epochs=80, validation=(x, y), checkpoint=kept, on_epoch=lambda epoch, _best: epoch == stop)
        return weights(model)

    trained(tmp_path / "fit.safetensors", stop=40)
    whole, resumed = trained(), trained(tmp_path / "fit.safetensors")
    for key, value in whole.items():
        torch.testing.assert_close(resumed[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_on_cuda_a_fit_on_a_stream():
    x, y = (t[0].numpy() for t in data(1))
    stream = ArrayStream(x, y, block_rows=10)
    model = process("M-ProbMix", batch_size=4).cuda()
    result = fit(model, stream, epochs=60, validation=stream, learning_rate=0.01)
    assert (result.best_nll < result.validation_nll[0]).all()


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{"compile": True}, {"bf16": True}, {"compile": True, "bf16": True}])
def test_on_cuda_compiled_and_in_bfloat16(options):
    model, x, y = on_cuda("M-ProbMix")
    result = fit(model, x, y, epochs=80, validation=(x, y), learning_rate=0.01, **options)
    assert (result.best_nll < result.validation_nll[0]).all() and result.diverged == ()


@pytest.mark.gpu
@pytest.mark.slow
def test_on_cuda_all_splits_of_a_set_at_batch_32():
    """20 splits of a table of 1000 rows and 8 features, MLP 128-32: at most 150 microseconds a step, the best of the ways."""
    x, y = torch.randn(20, 1000, 8, device="cuda"), torch.randn(20, 1000, 1, device="cuda")
    times: dict[str, float] = {}
    for name in METHODS:
        for compile in ("auto", True):
            method = METHODS[name]
            density = build_density(method, num_features=8, likelihood=Gaussian, widths=(128, 32), replicas=20)
            graph = NearestNeighborGraph(x.cpu(), 5).to("cuda") if method.graph == "nearest" else None
            model = ProbMix(density.cuda(), at=method.site, graph=graph, batch_size=32).cuda()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

            def on_epoch(epoch, _best, begin=begin, end=end):
                if epoch in (10, 30):
                    (begin if epoch == 10 else end).record()

            fit(model, x, y, epochs=30, validation=(x, y), on_epoch=on_epoch, compile=compile)
            times[f"{name}, compile={compile}"] = 1e3 * begin.elapsed_time(end) / (20 * 32)
    print(*(f"{case}: {us:.0f} microseconds a step" for case, us in times.items()), sep="\n")
    for name in METHODS:
        assert min(us for case, us in times.items() if case.startswith(f"{name},")) <= 150, times
