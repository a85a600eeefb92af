"""Every public function, called with odd arguments drawn by its signature: it works, or says in one sentence what is wrong.

A call of each argument of each function is tried by default; ``pytest -m slow tests/test_signatures.py`` tries 5,000. A public
name without a valid call in :func:`calls` fails, so that a new one is held to this too.
"""

from __future__ import annotations

import importlib
import inspect
import io
import linecache
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import nn

import pyro_probmix
from pyro_probmix import METHODS, Method, ProbMix, ProbMixClassifier, ProbMixRegressor
from pyro_probmix import calibration as c
from pyro_probmix import graphs as g
from pyro_probmix import inference as i
from pyro_probmix import models as m
from pyro_probmix import pooling as p

MODULES = ("", ".models", ".inference", ".estimators", ".calibration", ".graphs", ".pooling", ".experiments")
#: Results that functions give back, abstract bases, and errors: nobody makes them from arguments of their own.
GIVEN_BACK = {
    *(
        "CalibrationCurve",
        "CheckReport",
        "Criterion",
        "Density",
        "Estimate",
        "Fit",
        "ForeignCheckpoint",
        "DamagedCheckpoint",
        "IsotonicMap",
    ),
    *("EdgeDistribution", "Graph", "Likelihood", "Reliability", "RowStream"),
}
TINY: dict[str, Any] = {"ensemble": 2, "widths": (4,), "epochs": 1, "periodic": 2, "num_samples": 4, "random_state": 0}
PACKAGE = str(Path(str(pyro_probmix.__file__)).parent)
N, D = 24, 2
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D))
Y = X[:, 0] + 0.1 * RNG.normal(size=N)
CLASSES = np.arange(N) % 3
TX, TY = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(Y, dtype=torch.float32)[:, None]
PROBABILITIES = np.full((N, 3), 1 / 3)


def density(site: str = "M-ProbMix") -> Any:
    return m.build_density(METHODS[site], num_features=D, likelihood=m.Gaussian, widths=(4, 3))


def model(x: Any, y: Any = None) -> Any:
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(w * x[:, 0], 1.0), obs=y)


@cache
def regressor() -> ProbMixRegressor:
    return ProbMixRegressor(**TINY).fit(X, Y)


@cache
def classifier() -> ProbMixClassifier:
    return ProbMixClassifier(**TINY).fit(X, CLASSES)


@cache
def mixture() -> Any:
    return i.predict(density().eval(), TX, num_samples=3)


@cache
def predictions() -> c.Predictions:
    return c.Predictions(Y, RNG.normal(size=(2, 20, N)), densities=[gaussians()])


@cache
def gaussians() -> c.GaussianMixture:
    return c.GaussianMixture(RNG.normal(size=(2, N)), np.ones((2, N)))


def folder() -> str:
    return tempfile.mkdtemp()


@cache
def table() -> str:
    path = f"{folder()}/rows.parquet"
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "y": Y}), path)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text may be taken as the path of a file, which is written."""
    monkeypatch.chdir(tmp_path)


def arguments_of_models() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Modules are called once they are made, so that an argument that only the first call would refuse is seen."""

    def ran(cls: Any, *inputs: Any) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            return cls(**arguments)(*inputs)

        call.__signature__ = inspect.signature(cls)  # type: ignore[attr-defined]
        return call

    for head in dict.fromkeys(m.LIKELIHOODS.values()):
        options = {"scale": "softplus", "floor": 0.0} if head is m.Gaussian else {}
        arguments = {"in_features": D, "num_outputs": 2, "replicas": None, **options}
        yield f".models.{head.__name__}", ran(head, TX), arguments
    yield ".models.Censored", ran(lambda likelihood: m.Censored(likelihood)(D, 1), TX), {"likelihood": m.Gaussian}
    series = torch.zeros(N, 5, D)
    yield (
        ".models.LSTM",
        ran(m.LSTM, series),
        {"in_features": D, "num_steps": 5, "hidden": 3, "num_layers": 1, "out_features": 2, "replicas": None},
    )
    yield ".models.LSTMLayer", ran(m.LSTMLayer, series), {"in_features": D, "hidden": 3, "replicas": None}
    yield (
        ".models.Transformer",
        ran(m.Transformer, series),
        {
            "in_features": D,
            "num_steps": 5,
            "width": 4,
            "num_heads": 2,
            "num_layers": 1,
            "out_features": 2,
            "replicas": None,
        },
    )
    yield (
        ".models.Attention",
        ran(m.Attention, torch.zeros(N, 5, 4), torch.zeros(N, 5, 4)),
        {"width": 4, "num_heads": 2, "replicas": None},
    )
    yield (
        ".models.MLP",
        ran(m.MLP, TX),
        {"in_features": D, "widths": (4, 3), "activation": "relu", "dropout": 0.1, "replicas": None},
    )
    yield (
        ".models.Linear",
        ran(m.Linear, TX),
        {"in_features": D, "out_features": 3, "replicas": None, "bound": 0.1, "zero_bias": False},
    )
    yield (
        ".models.PeriodicFeatures",
        ran(m.PeriodicFeatures, TX),
        {"in_features": D, "frequencies": 2, "scale": 0.5, "replicas": None},
    )
    yield ".models.Stacked", ran(m.Stacked, TX), {"module": nn.Linear(D, 2), "replicas": 2, "event_dim": 1}
    yield (
        ".models.GaussianEmbedding",
        ran(m.GaussianEmbedding, TX, TX),
        {"width": D, "variance": None, "replicas": None, "variance_width": None},
    )
    yield ".models.PointEmbedding", ran(m.PointEmbedding, TX, TX), {}
    own = density()
    parts = {"encoder": own.encoder, "embedding": own.embedding, "decoder": own.decoder, "likelihood": own.likelihood}
    yield ".models.ConditionalDensity", ran(m.ConditionalDensity, TX), {**parts, "replicas": None, "event_dim": 1}
    yield (
        ".models.ProbMix",
        ran(ProbMix, TX, TY),
        {
            "density": own,
            "at": "z",
            "graph": g.CompleteGraph(N),
            "alpha": 0.1,
            "beta": 0.0,
            "pool": "log-linear",
            "kernel": None,
            "labels": "sample",
            "batch_size": 4,
            "num_fused": 2,
            "plate": None,
            "add_unfused_rows": False,
        },
    )
    yield (
        ".models.build_density",
        ran(m.build_density, TX),
        {
            "method": METHODS["ProbMix"],
            "num_features": D,
            "likelihood": m.Gaussian,
            "num_outputs": 1,
            "widths": (4, 3),
            "mixing_layer": 1,
            "activation": "relu",
            "dropout": 0.1,
            "network": "mlp",
            "replicas": None,
        },
    )
    yield ".models.find_method", m.find_method, {"name": "ProbMix"}
    yield ".models.initialise", m.initialise, {"module": m.MLP(D, (4,), replicas=2), "seeds": [0, 1]}
    yield ".models.Method", Method, {}


def arguments_of_inference() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    own = density()
    process = ProbMix(own, at="z", batch_size=4)
    for name in ("CRPS", "BetaNLL", "ExpectedLogLikelihood", "LogExpectedLikelihood"):
        options: dict[str, dict[str, Any]] = {"BetaNLL": {"beta": 0.5}, "LogExpectedLikelihood": {"scope": "edge"}}
        extra = options.get(name, {})
        yield (
            f".inference.{name}",
            getattr(i, name),
            {"num_particles": 2, "num_embeddings": 1, "max_plate_nesting": 2, **extra},
        )
    yield ".inference.Checkpoint", i.Checkpoint, {"path": f"{folder()}/c.safetensors", "seconds": 1.0}
    yield (
        ".inference.fit",
        i.fit,
        {
            "model": process,
            "x": TX,
            "y": TY,
            "epochs": 1,
            "validation": (TX, TY),
            "weights": torch.ones(N),
            "learning_rate": 1e-3,
            "criterion": None,
            "clip_norm": 1.0,
            "schedule": None,
            "patience": None,
            "num_samples": 2,
            "seed": 0,
            "names": None,
            "on_epoch": None,
            "compile": False,
            "bf16": False,
            "distributed": False,
            "checkpoint": None,
            "optimizer": torch.optim.Adam,
        },
    )
    yield (
        ".inference.predict",
        i.predict,
        {
            "density": own,
            "x": TX,
            "embedding": "sample",
            "num_samples": 2,
            "ensemble": False,
            "loc": 0.0,
            "scale": 1.0,
            "at": "z",
            "response": "y",
        },
    )
    yield ".inference.negative_log_likelihood", i.negative_log_likelihood, {"density": own, "x": TX, "y": TY}
    yield ".inference.quantiles", i.quantiles, {"mixture": mixture(), "levels": [0.1, 0.9]}
    yield ".inference.rescale", i.rescale, {"predictive": mixture(), "factor": 2.0}
    yield (
        ".inference.to_predictions",
        i.to_predictions,
        {
            "predictive": mixture(),
            "y": TY,
            "num_draws": 5,
            "x": TX,
            "rows": None,
            "targets": None,
            "members": None,
            "features": None,
        },
    )
    components = dist.Normal(torch.zeros(3, N, 1), 1.0).to_event(1)
    yield (
        ".inference.PredictiveMixture",
        i.PredictiveMixture,
        {"components": components, "num_mixed": 1, "loc": 0.0, "scale": 1.0},
    )
    yield "PredictiveMixture.log_prob", mixture().log_prob, {"value": TY}
    yield "PredictiveMixture.cdf", mixture().cdf, {"value": TY}
    yield "PredictiveMixture.sample", mixture().sample, {"sample_shape": (3,)}
    yield (
        ".inference.ArrayStream",
        i.ArrayStream,
        {"x": X, "y": Y, "task": "regression", "memory_mib": 64, "block_rows": None, "chunk_rows": None},
    )
    yield (
        ".inference.ParquetStream",
        i.ParquetStream,
        {
            "path": table(),
            "target": "y",
            "features": ["a", "b"],
            "task": "regression",
            "memory_mib": 64,
            "block_rows": None,
            "chunk_rows": None,
        },
    )
    yield "ArrayStream.scaled", i.ArrayStream(X, Y).scaled, {"x": X, "y": Y}
    yield "ArrayStream.standardized", i.ArrayStream(X, Y).standardized, {"like": None}


def arguments_of_estimators() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    defaults = {
        "method": "M-ProbMix",
        "likelihood": "auto",
        "activation": "silu",
        "encoder": None,
        "alpha": 0.1,
        "beta": 0.1,
        "neighbors": 2,
        "batch_size": 4,
        "learning_rate": 0.005,
        "validation_fraction": 0.2,
        "patience": None,
        "warm_start": False,
        "callbacks": (),
        "verbose": 0,
        "device": "cpu",
    }
    kinds: list[tuple[Any, Any, Any]] = [
        (ProbMixRegressor, regressor, Y),
        (ProbMixClassifier, classifier, CLASSES),
    ]
    for cls, fitted, y in kinds:
        name = cls.__name__

        def fit(cls: Any = cls, y: Any = y, **arguments: Any) -> Any:
            return cls(**arguments).fit(X, y)

        fit.__signature__ = inspect.signature(cls)  # type: ignore[attr-defined]
        yield f".estimators.{name}", fit, {**defaults, **TINY}
        yield f"{name}.fit", cls(**TINY).fit, {"X": X, "y": y, "sample_weight": np.ones(N), "validation": (X, y)}
        yield f"{name}.partial_fit", cls(**TINY).partial_fit, {"X": X, "y": y, "sample_weight": np.ones(N)}
        for method in ("predict", "predict_dist"):
            yield f"{name}.{method}", getattr(fitted(), method), {"X": X}
        yield f"{name}.sample", fitted().sample, {"X": X, "num_samples": 3, "random_state": 0}
        yield f"{name}.nll", fitted().nll, {"X": X, "y": y, "sample_weight": np.ones(N)}
        yield f"{name}.score", fitted().score, {"X": X, "y": y, "sample_weight": np.ones(N)}
        yield f"{name}.save", fitted().save, {"path": f"{folder()}/model"}
    yield "ProbMixRegressor.predict_quantiles", regressor().predict_quantiles, {"X": X, "quantiles": (0.1, 0.9)}
    yield "ProbMixRegressor.predict_interval", regressor().predict_interval, {"X": X, "coverage": 0.9}
    yield "ProbMixClassifier.predict_proba", classifier().predict_proba, {"X": X}
    saved = f"{folder()}/model"
    regressor().save(saved)
    yield ".load", pyro_probmix.load, {"path": saved, "encoder": None, "likelihood": None}


def arguments_of_calibration() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    pit = np.linspace(0.01, 0.99, N)
    events = (CLASSES == 0).astype(float)
    yield (
        ".calibration.Predictions",
        c.Predictions,
        {
            "y": Y,
            "draws": RNG.normal(size=(2, 20, N)),
            "kind": "continuous",
            "log_likelihood": np.zeros((2, 1, N)),
            "densities": [gaussians()],
            "probabilities": None,
            "x": X,
            "targets": ["y"],
            "rows": None,
            "features": ["a", "b"],
            "members": None,
        },
    )
    yield (
        ".calibration.GaussianMixture",
        c.GaussianMixture,
        {"means": np.zeros((2, N)), "stds": np.ones((2, N)), "weights": np.full(2, 0.5)},
    )
    yield ".calibration.ScipyMixture", c.ScipyMixture, {"components": stats.norm(np.zeros((2, N)), 1)}
    yield ".calibration.RescaledDensity", c.RescaledDensity, {"base": gaussians(), "factor": 2.0}
    yield (
        ".calibration.RemappedDensity",
        c.RemappedDensity,
        {"base": gaussians(), "levels": c.fit_isotonic(gaussians(), Y)},
    )
    yield ".calibration.ScaleFactor", c.ScaleFactor, {"factor": 2.0}
    yield ".calibration.Temperature", c.Temperature, {"value": 2.0}
    yield ".calibration.bayesian_p_values", c.bayesian_p_values, {"predictions": predictions()}
    yield (
        ".calibration.before_and_after",
        c.before_and_after,
        {"density": gaussians(), "y": Y, "recalibrations": {"scale": c.ScaleFactor(2.0)}, "level": 0.9},
    )
    yield (
        ".calibration.bootstrap_error",
        c.bootstrap_error,
        {"statistic": lambda rows: float(Y[rows].mean()), "num_rows": N, "seed": 0},
    )
    for name in ("brier_score", "class_log_score", "fit_temperature"):
        yield f".calibration.{name}", getattr(c, name), {"probabilities": PROBABILITIES, "y": CLASSES}
    yield (
        ".calibration.expected_calibration_error",
        c.expected_calibration_error,
        {"probabilities": PROBABILITIES, "y": CLASSES, "num_bins": 5, "seed": 0},
    )
    yield (
        ".calibration.check",
        c.check,
        {"predictions": predictions(), "folder": folder(), "level": 0.9, "fitted": None},
    )
    yield ".calibration.check_density", c.check_density, {"density": gaussians(), "y": Y, "level": 0.9}
    for name in ("coverage_curve", "pit_curve"):
        yield f".calibration.{name}", getattr(c, name), {"pit": pit, "level": 0.9}
    yield ".calibration.uniform_curve", c.uniform_curve, {"values": pit, "level": 0.9}
    yield ".calibration.crps_draws", c.crps_draws, {"draws": np.zeros((5, N)), "y": Y}
    yield ".calibration.crps_gaussian", c.crps_gaussian, {"y": Y, "mean": Y, "std": np.ones(N)}
    yield (
        ".calibration.crps_gaussian_mixture",
        c.crps_gaussian_mixture,
        {"y": Y, "means": np.zeros((2, N)), "stds": np.ones((2, N)), "weights": None},
    )
    yield ".calibration.fit_isotonic", c.fit_isotonic, {"density": gaussians(), "y": Y, "num_cells": 4}
    yield ".calibration.fit_scale", c.fit_scale, {"density": gaussians(), "y": Y}
    yield ".calibration.interval_score", c.interval_score, {"y": Y, "lower": Y - 1, "upper": Y + 1, "level": 0.9}
    yield (
        ".calibration.loo",
        c.loo,
        {"data": c.to_arviz(c.Predictions(Y, RNG.normal(size=(40, 5, N)), log_likelihood=RNG.normal(size=(40, 1, N))))},
    )
    yield ".calibration.mean_over_rows", c.mean_over_rows, {"scores": Y}
    yield ".calibration.pit_of_draws", c.pit_of_draws, {"draws": np.zeros((5, N)), "y": Y, "seed": 0}
    yield ".calibration.randomised_pit", c.randomised_pit, {"cdf": pit, "cdf_below": pit / 2, "seed": 0}
    yield (
        ".calibration.regression_calibration_error",
        c.regression_calibration_error,
        {"pit": pit, "levels": [0.5], "seed": 0},
    )
    yield ".calibration.reliability", c.reliability, {"probability": pit, "event": events, "num_bins": 3, "seed": 0}
    yield ".calibration.save_netcdf", c.save_netcdf, {"data": c.to_arviz(predictions()), "path": f"{folder()}/a.nc"}
    yield ".calibration.sharpness", c.sharpness, {"std": np.ones(N)}
    yield ".calibration.summarise", c.summarise, {"predictions": predictions(), "level": 0.9}
    yield ".calibration.to_arviz", c.to_arviz, {"predictions": predictions()}
    for method, arguments in (
        ("cdf", {"y": Y}),
        ("log_prob", {"y": Y}),
        ("quantile", {"level": 0.5}),
        ("crps", {"y": Y}),
    ):
        for other in (
            gaussians(),
            c.ScipyMixture(stats.norm(np.zeros((2, N)), 1)),
            c.RescaledDensity(gaussians(), 2.0),
        ):
            yield f"{type(other).__name__}.{method}", getattr(other, method), arguments


def arguments_of_the_rest() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    yield ".graphs.CompleteGraph", g.CompleteGraph, {"num_nodes": N, "device": "cpu"}
    yield ".graphs.LabelKernelGraph", g.LabelKernelGraph, {"y": TY, "bandwidth": 0.5}
    yield ".graphs.NearestNeighborGraph", g.NearestNeighborGraph, {"x": TX, "k": 2, "search": "auto"}
    yield ".graphs.SameClassGraph", g.SameClassGraph, {"y": CLASSES}
    yield ".graphs.WeightedGraph", g.WeightedGraph, {"matrix": np.ones((N, N)) - np.eye(N)}
    graph = g.CompleteGraph(N)
    for kind in (graph, g.NearestNeighborGraph(TX, k=2), g.SameClassGraph(CLASSES)):
        yield f"{type(kind).__name__}.edges", kind.edges, {"rows": torch.arange(4), "num_fused": 2}
    a, b = dist.Normal(torch.zeros(4), 1.0), dist.Normal(torch.ones(4), 2.0)
    for name in ("linear_pool", "log_linear_pool"):
        yield f".pooling.{name}", getattr(p, name), {"p": a, "q": b, "weight": 0.5}
    for pool in ("linear", "log-linear"):
        yield (
            ".pooling.pool_rows",
            p.pool_rows,
            {"p": a, "weight": 0.5, "shift": 2, "dim": -1, "pool": pool, "num_fused": 2},
        )
    yield ".PriorGuide", pyro_probmix.PriorGuide, {"model": model, "guide": None}
    for name in ("BiasedBernoulliKernel", "BiasedOneHotKernel", "CircularKernel", "GaussianKernel", "SphericalKernel"):
        yield f".{name}", getattr(pyro_probmix, name), {"beta": 0.1}
    yield ".BiasedCategoricalKernel", pyro_probmix.BiasedCategoricalKernel, {"beta": 0.1, "num_classes": 3}
    yield ".DiracKernel", pyro_probmix.DiracKernel, {}

    def ran(**arguments: Any) -> Any:
        fused = pyro_probmix.fuse(**arguments)
        return fused(TX, TY[:, 0]) if arguments.get("model") is not None else fused

    ran.__signature__ = inspect.signature(pyro_probmix.fuse)  # type: ignore[attr-defined]
    yield (
        ".fuse",
        ran,
        {
            "model": model,
            "at": "y",
            "weight": dist.Beta(0.5, 0.5),
            "num_fused": 2,
            "pool": "log-linear",
            "beta": 0.1,
            "kernel": None,
            "labels": "sample",
            "plate": "data",
        },
    )
    yield (
        ".register_family",
        pyro_probmix.register_family,
        {"cls": type("Own", (dist.Normal,), {}), "to_natural": lambda d: (d.loc,), "from_natural": lambda d, n: d},
    )


@cache
def calls() -> dict[str, list[tuple[Callable[..., Any], dict[str, Any]]]]:
    """Public name -> functions with arguments that are right."""
    found: dict[str, list[tuple[Callable[..., Any], dict[str, Any]]]] = {}
    for group in (
        arguments_of_models(),
        arguments_of_inference(),
        arguments_of_estimators(),
        arguments_of_calibration(),
        arguments_of_the_rest(),
    ):
        for name, function, arguments in group:
            found.setdefault(name, []).append((function, arguments))
    return found


ODD: list[Any] = [
    *(None, True, -1, 0, 1, 7, 0.5, -0.5, float("nan"), float("inf"), 1e300, 2**70, 1j, b"abc", "", "no such", "a\nb"),
    *([], [1], [1.5, 2.5], ["a"], [[1], [2, 3]], (), {}, {"a": 1}, {1, 2}, object(), lambda *args: None, int, Method()),
    *(Path("no/such/place"), range(3), np.float64(0.5), np.int64(3), np.array("text"), np.datetime64("2024-01-01")),
    *(
        np.zeros(0),
        np.zeros(3),
        np.zeros((3, 0)),
        np.zeros((2, 3)),
        np.array([None, "a"], dtype=object),
        np.ones(N, bool),
    ),
    *(
        np.full(N, np.nan),
        np.full((N, D), np.inf),
        np.zeros((N, D), complex),
        np.zeros((N, 1, 1)),
        np.ones(N, np.float16),
    ),
    *(
        torch.tensor(0.5),
        torch.zeros(0),
        torch.zeros(3),
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(N, D).half(),
    ),
    *(
        torch.full((N, 1), torch.nan),
        torch.zeros(N, dtype=torch.bool),
        torch.eye(3).to_sparse(),
        torch.zeros(N, 1, dtype=torch.long),
    ),
    *(pd.DataFrame({"a": ["x", "y"]}), pd.Series([1.0, None]), pd.DataFrame(X, columns=["a", "b"]), pd.Series(Y)),
    *(dist.Normal(0.0, 1.0), dist.Normal(torch.zeros(4, dtype=torch.float64), 1.0), dist.Poisson(torch.ones(3))),
    *(dist.Categorical(torch.ones(3)), nn.Linear(2, 2), nn.Identity(), torch.device("cpu"), torch.float64, np.random),
]


def varied(value: Any) -> list[Any]:
    """Forms of a right argument that a person might give in its place."""
    forms: list[Any] = []
    if isinstance(value, torch.Tensor):
        forms += [value.numpy(), value.double(), value.tolist(), value[..., None], value[:-1] if value.dim() else value]
        forms += [value.clone().requires_grad_()] if value.is_floating_point() else []
    elif isinstance(value, np.ndarray):
        forms += [
            torch.as_tensor(value),
            value.tolist(),
            value.astype(np.float32),
            value[..., None],
            value[:-1],
            value.astype(str),
        ]
        forms += [
            np.asfortranarray(value),
            value.astype(object),
            np.ma.masked_greater(value, 0.5),
            pd.Series(list(value)),
        ]
    elif isinstance(value, str):
        forms += [Path(value), value.upper(), f"{value} "]
    elif isinstance(value, tuple | list):
        forms += [list(value), tuple(value)]
        forms += [np.asarray(value)] if all(isinstance(entry, str | int | float) for entry in value) else []
    elif isinstance(value, int | float):
        forms += [np.float32(value), np.array(value), torch.tensor(value), str(value), -value, float(value)]
    return forms


def last(traceback: TracebackType | None) -> TracebackType:
    assert traceback is not None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback


def is_sentence(error: BaseException) -> bool:
    """Whether an error was raised on purpose, here or by scikit-learn's checks of arguments, in words."""
    place = last(error.__traceback__)
    file = place.tb_frame.f_code.co_filename
    on_purpose = linecache.getline(file, place.tb_lineno).lstrip().startswith(("raise ", "raise\n"))
    ours = file.startswith(PACKAGE) or any(
        part in file for part in ("sklearn/utils", "sklearn/base", "sklearn/metrics")
    )
    return ours and on_purpose and isinstance(error, ValueError | TypeError | OSError) and len(str(error)) > 15


def outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> BaseException | None:
    """The error of a call that is no sentence."""
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            function(**arguments)
    except Exception as error:
        return None if is_sentence(error) else error
    return None


def test_every_public_name_has_a_call() -> None:
    known = {name.rpartition(".")[2] for name in calls()}
    for module in MODULES:
        home = importlib.import_module(f"pyro_probmix{module}")
        public = {name for name in getattr(home, "__all__", ()) if callable(getattr(home, name))}
        assert public - known - GIVEN_BACK == set()


@pytest.mark.parametrize("name", sorted(calls()))
def test_the_calls_are_right(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for function, arguments in calls()[name]:
            function(**arguments)


def odd_calls(names: list[str], each: int) -> Iterator[tuple[str, str, Any, Callable[..., Any], dict[str, Any]]]:
    for name in names:
        rng = np.random.default_rng(20)
        for function, arguments in calls()[name]:
            for argument in inspect.signature(function).parameters:
                if argument in ("args", "kwargs", "prediction", "arguments", "cls", "y") and argument not in arguments:
                    continue
                pool = [*ODD, *varied(arguments.get(argument))]
                for k in rng.permutation(len(pool))[:each]:
                    takes_functions = callable(arguments.get(argument)) or argument in (
                        "on_epoch",
                        "schedule",
                        "alpha",
                        "validation",
                    )
                    if callable(pool[k]) and takes_functions:
                        continue  # what somebody's own function raises when it is called is theirs to say
                    yield name, argument, pool[k], function, {**arguments, argument: pool[k]}


def failures(names: list[str], each: int) -> tuple[list[str], int]:
    """The calls that ended in an error from inside, and how many there were in all."""
    said, count = [], 0
    for name, argument, value, function, arguments in odd_calls(names, each):
        count += 1
        error = outcome(function, arguments)
        if error is not None:
            place = last(error.__traceback__)
            where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
            said.append(
                f"{name}({argument}={str(value)[:60]!r}): {type(error).__name__}: {str(error)[:100]!r} at {where}"
            )
    return said, count


@pytest.mark.parametrize("name", sorted(calls()))
def test_odd_arguments_are_taken_or_refused_in_a_sentence(name: str) -> None:
    said, count = failures([name], each=4)
    assert count or not any(arguments for _, arguments in calls()[name])
    assert not said, "\n".join(said)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_thousand_odd_arguments() -> None:
    said, count = failures(sorted(calls()), each=40)
    assert count >= 5000
    assert not said, "\n".join(said)
