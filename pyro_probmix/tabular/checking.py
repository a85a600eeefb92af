"""One page on how a model does on rows it has not seen: what it says, how well calibrated, where it fails, and by what."""

from __future__ import annotations

from pyro_probmix.random_state import own_random_state

__all__ = ["check_table"]

import base64
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment
from sklearn.inspection import permutation_importance

from pyro_probmix.calibration.checking import CheckReport, check
from pyro_probmix.calibration.predictions import Predictions
from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.inference.handover import to_predictions
from pyro_probmix.tabular.model import TableModel

#: Rows that the figures, the distances and the influences are computed from, at most; the scores are of all.
MOST_ROWS = 2000
REPEATS = 5
WORST = 10
_CAPTIONS = {
    "predictive": "Observations, and data sets drawn from the predictions: do they look alike?",
    "pit": "Probability integral transform: inside the band if the predictions are calibrated.",
    "coverage": "Coverage of central intervals against what they promise.",
    "reliability": "Observed frequency against predicted probability.",
    "mean": "The mean over the rows, observed and in data sets drawn from the predictions.",
    "std": "The standard deviation over the rows, observed and in data sets drawn from the predictions.",
}


@dataclass(frozen=True)
class _Table:
    heads: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class _Section:
    title: str
    text: str = ""
    tables: list[_Table] = field(default_factory=list)
    figures: list[dict[str, str]] = field(default_factory=list)


def check_table(model: TableModel, frame: pd.DataFrame, folder: str | os.PathLike[str], *, seed: int = 0) -> Path:
    """Writes ``check.html`` on a model's predictions of held-out rows, and beside it the figures and ``predictions.nc``.

    Args:
        model: fitted.
        frame: features and targets of rows that it was not fitted to.
        folder: where to write.
        seed: of the draws and permutations.

    Returns:
        the page.

    Raises:
        ValueError: for rows that do not fit, fewer than two of them, or a folder that cannot be written to.
    """
    if len(frame) < 2:
        raise ValueError(f"the table has {len(frame)} rows, expected at least two. Try more held-out rows.")
    frame = frame.reset_index(drop=True)
    y = model.observed(frame)
    predicted = model.predict(frame)
    scores = _row_scores(model, frame, y)
    some = np.sort(np.random.default_rng(seed).permutation(len(frame))[:MOST_ROWS])
    name = type(model.estimator).__name__
    summary = (
        f"{name}, method {model.estimator.method}, {model.estimator.ensemble} members; targets {', '.join(model.targets)}; "
        f"{len(frame)} rows that it was not fitted to. NLL {scores.mean():.3f} ± {scores.std() / len(scores) ** 0.5:.3f} "
        "nats a row (mean and standard error)."
        + (f" Figures, checks and influences are of {len(some)} of them." if len(some) < len(frame) else "")
    )
    predictions = _predictions(model, frame.iloc[some], y[some], seed)
    influence = _influence(model, frame.iloc[some], y[some], seed)
    with _all_or_nothing(Path(folder)) as partial:
        report = check(predictions, partial)
        sections = [
            _Section(
                "What the model says",
                "The first rows.",
                [_shown(pd.concat([_observed(model, y), predicted], axis=1)[:8])],
            ),
            _calibration(report),
            _failures(model, frame, y, predicted, scores),
            _influences(influence),
        ]
        template = Environment(autoescape=True).from_string(
            files("pyro_probmix.tabular").joinpath("page.html").read_text("utf-8")
        )
        text = template.render(title=f"Check of {', '.join(model.targets)}", summary=summary, sections=sections)
        (partial / "check.html").write_text(text, "utf-8")
    return Path(folder) / "check.html"


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """A folder whose files are moved to the one that is meant when all are there, and of which nothing is left before.

    Raises:
        ValueError: if one of them cannot be written to.
    """
    partial = folder.with_name(f".partial-{os.getpid()}-{folder.name}")
    try:
        partial.mkdir(parents=True)
        yield partial
        folder.mkdir(exist_ok=True)
        for path in sorted(partial.iterdir()):
            os.replace(path, folder / path.name)
    except OSError as error:
        raise ValueError(
            f"the folder {str(folder)!r} could not be written to ({error.strerror}). Try another."
        ) from None
    except ValueError as error:
        raise ValueError(str(error).replace(str(partial), str(folder))) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _row_scores(model: TableModel, frame: pd.DataFrame, y: np.ndarray) -> Any:
    """The NLL of each row, in nats, [n]."""
    import torch

    x = model.features(frame)
    if isinstance(model.estimator, ProbMixClassifier):
        position = {str(name): k for k, name in enumerate(model.classes)}
        unknown = [label for label in y if label not in position]
        if unknown:
            raise ValueError(f"the target holds {unknown[0]!r}, expected one of {', '.join(position)}. Try other rows.")
        probabilities = model.estimator.predict_proba(x)
        return -np.log(probabilities[np.arange(len(y)), [position[label] for label in y]])
    blocks = [slice(start, start + MOST_ROWS) for start in range(0, len(x), MOST_ROWS)]
    with torch.no_grad():
        parts = [-model.estimator.predict_dist(x[own]).log_prob(torch.tensor(y[own])).cpu().numpy() for own in blocks]
    return np.concatenate(parts)


def _predictions(model: TableModel, frame: pd.DataFrame, y: np.ndarray, seed: int) -> Predictions:
    import torch

    x = model.features(frame)
    named: dict[str, Any] = {"targets": model.targets, "rows": list(frame.index)}
    if isinstance(model.estimator, ProbMixClassifier):
        position = {name: k for k, name in enumerate(model.classes)}

        def codes(labels: np.ndarray) -> Any:
            return np.vectorize(lambda label: position[str(label)], otypes=[int])(labels)

        return Predictions(
            codes(y),
            codes(model.estimator.sample(x, 400, random_state=seed))[None],
            kind="class",
            probabilities=model.estimator.predict_proba(x),
            classes=model.classes,
            **named,
        )
    with own_random_state(seed=seed), torch.no_grad():
        return to_predictions(model.estimator.predict_dist(x), torch.tensor(y), num_draws=400, **named)


class _Whole:
    """The model of the table's own columns, as scikit-learn permutes them."""

    def __init__(self, model: TableModel) -> None:
        self.model = model

    def fit(self, _x: Any, _y: Any) -> _Whole:  # asked for by scikit-learn, never called
        return self

    def score(self, frame: pd.DataFrame, y: np.ndarray) -> float:
        return -float(self.model.estimator.nll(self.model.features(frame), y))


def _influence(model: TableModel, frame: pd.DataFrame, y: np.ndarray, seed: int) -> pd.DataFrame:
    """How much worse the NLL gets when a column is permuted, mean and standard deviation over the repeats."""
    own = frame[list(model.columns.features)]
    found = permutation_importance(_Whole(model), own, y, n_repeats=REPEATS, random_state=seed)
    table = pd.DataFrame({"mean": found.importances_mean, "std": found.importances_std}, index=own.columns)
    return table.sort_values("mean", ascending=False)


def _observed(model: TableModel, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(y.reshape(len(y), -1), columns=[f"{name} observed" for name in model.targets])


def _shown(frame: pd.DataFrame, caption: str = "") -> _Table:
    rows = [
        [str(index), *(_number(value) for value in row)]
        for index, row in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return _Table(["row", *map(str, frame.columns)], rows, caption)


def _number(value: Any) -> str:
    """Four digits, without an exponent where a reader can do without it."""
    if not isinstance(value, float):  # as NumPy's is, too
        return str(value)
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _calibration(report: CheckReport) -> _Section:
    tables = []
    for target, checks in report.checks.items():
        rows = [[metric, str(number)] for metric, number in checks.items()]
        p_values = report.bayesian_p_values.get(target, {})
        rows += [[f"Bayesian p-value, {statistic}", f"{p:.2g}"] for statistic, p in p_values.items()]
        tables.append(_Table(["check", "value"], rows, target))
    figures = [
        {"data": base64.b64encode(path.read_bytes()).decode(), "caption": _caption(name)}
        for name, path in report.figures.items()
    ]
    text = "Each number ± its standard error; a p-value near 0 says that the predictions are not calibrated."
    return _Section("How well calibrated it is", text, tables, figures)


def _caption(name: str) -> str:
    base, _, target = name.partition("-")
    told = next((text for key, text in _CAPTIONS.items() if base.startswith(key)), base)
    return f"{re.sub(r'^[0-9]+-', '', target)}: {told}" if target else told


def _failures(
    model: TableModel, frame: pd.DataFrame, y: np.ndarray, predicted: pd.DataFrame, scores: np.ndarray
) -> _Section:
    """The rows with the worst scores, and the columns' values among which the score is worst."""
    worst = np.argsort(-scores)[:WORST]
    columns = [_observed(model, y), predicted, pd.DataFrame({"NLL": scores}), frame[list(model.columns.features)]]
    tables = [
        _shown(pd.concat(columns, axis=1).iloc[worst], "The rows whose observation the model found least likely.")
    ]
    parts = sorted(_parts(model, frame, scores), key=lambda part: -part[2])[:WORST]
    rows = [[name, str(count), f"{mean:.3f}", f"{error:.3f}"] for name, count, mean, error in parts]
    tables.append(
        _Table(
            ["rows with", "how many", "mean NLL", "standard error"],
            rows,
            "Parts of the table, a column's quarters or categories, with the highest NLL.",
        )
    )
    return _Section("Where it fails", "", tables)


def _parts(model: TableModel, frame: pd.DataFrame, scores: np.ndarray) -> Iterable[tuple[str, int, float, float]]:
    for name in model.columns.features:
        values = frame[name]
        numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        groups = pd.qcut(values, 4, duplicates="drop") if numbers and values.nunique() > 4 else values.astype(str)
        for group, own in pd.Series(scores).groupby(groups.to_numpy(), observed=True):
            if len(own) >= 5:
                label = f"{name} in {group}" if str(group).startswith("(") else f"{name} = {group}"
                yield label, len(own), float(own.mean()), float(own.std() / len(own) ** 0.5)


def _influences(influence: pd.DataFrame) -> _Section:
    rows = [[str(name), f"{row['mean']:.4f}", f"{row['std']:.4f}"] for name, row in influence[:50].iterrows()]
    text = (
        f"How much the NLL rises, in nats a row, when a column's values are shuffled among the rows ({REPEATS} times): what "
        "the model leans on, not what causes the target. Columns that tell the same stand in for each other."
    )
    return _Section("What it leans on", text, [_Table(["column", "rise of the NLL", "standard deviation"], rows)])
