"""The page of a check of a model on held-out rows: predictions, calibration, where it does worst, importance of columns."""

from __future__ import annotations

__all__ = ["check_table"]

import os
import warnings
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment
from tqdm import tqdm

from pyro_probmix.calibration.checking import CheckReport, check, suffix_of
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.calibration.figures.style import default_style
from pyro_probmix.calibration.scores.estimate import Estimate, mean_over_rows
from pyro_probmix.estimators.classifier import ProbMixClassifier
from pyro_probmix.files import write_files
from pyro_probmix.inference.predictive.handover import to_predictions
from pyro_probmix.moves import UnfinishedError
from pyro_probmix.names import printable, shown
from pyro_probmix.random_state import own_random_state
from pyro_probmix.tabular import sections
from pyro_probmix.tabular.asking import MissingTargets
from pyro_probmix.tabular.importance import MOST_MEASURED, importances, shuffled_rows
from pyro_probmix.tabular.model import TableModel
from pyro_probmix.tabular.page_files import expect_own_page
from pyro_probmix.tabular.parts import parts_of
from pyro_probmix.tabular.row_scores import plain_losses, refuse_ruled_out, row_scores
from pyro_probmix.tabular.verdict import LEVEL
from pyro_probmix.unfinished import settle

#: The most rows of a page, over all targets, and the fewest that are drawn where there are more.
MOST_OF_PAGE, LEAST_OF_PAGE = 10_000, 1000
#: The most rows for figures and calibration, the fewest, and rows x targets x densities that are mixed: the exact CRPS and
#: conformal intervals of so many take 12 s of a core.
MOST_ROWS, LEAST_ROWS, MOST_MIXED = 2000, 50, 200_000
#: Of so many targets at most, the first ones, calibration is measured and drawn.
MOST_DRAWN = 8
#: How a PNG begins in base64.
_PNG = "iVBORw0KGgo"


def check_table(
    model: TableModel, frame: pd.DataFrame, folder: str | os.PathLike[str], *, source: str = "the table", seed: int = 0
) -> Path:
    """Writes ``check.html`` on a model's predictions of held-out rows, and beside it the figures and ``predictions.nc``.

    Files of a former page that this one does not have are removed, other files stay. On a terminal a progress bar is shown
    on the standard error.

    Args:
        model: fitted.
        frame: features and targets of rows that it was not fitted to.
        folder: where to write.
        source: what the page calls the table, for example its file's name.
        seed: of the draws and permutations.

    Returns:
        the page.

    Raises:
        ValueError: for rows that do not fit, fewer than two of them, a target that the likelihood rules out, or a folder that
            cannot be written to, or holds a file of that name that is of no such page.
    """
    if len(frame) < 2:
        raise ValueError(f"the table has {len(frame)} rows, expected at least two. Try more held-out rows.")
    target, made = Path(folder), ["check.html", "predictions.nc"]
    if target.is_dir():
        try:
            settle(target, made)  # a check may have been killed there
        except UnfinishedError:
            raise
        except OSError as error:
            raise ValueError(
                f"the folder {shown(target)} cannot be read ({error.strerror}), expected one to write a page to. "
                "Try another --out."
            ) from None
    expect_own_page(target)
    frame, known = _with_targets(model, frame.reset_index(drop=True))
    total = len(frame)
    refuse_ruled_out(model, known)
    most = max(MOST_OF_PAGE // len(model.targets), LEAST_OF_PAGE)
    if total > most:
        chosen = np.sort(np.random.default_rng(seed).permutation(total)[:most])
        frame, known = frame.iloc[chosen], known[chosen]
    y = known if model.ends is None else _drawn_between(model, frame, known, seed)
    mixed = _mixed(model)
    most = int(np.clip(MOST_MIXED // (mixed * len(model.targets)), LEAST_ROWS, MOST_ROWS))
    some = np.sort(np.random.default_rng(seed).permutation(len(frame))[:most])
    shuffled, repeats = shuffled_rows(len(model.columns.features), some, mixed)
    partly = 0 if model.ends is None else int((known[:, 0] < known[:, 1]).sum())
    steps = 4 + min(len(model.columns.features), MOST_MEASURED) * repeats

    def fill(private: Path) -> None:
        predicted = model.predict(frame).set_axis(frame.index)
        bar.update()
        scores = row_scores(model, frame, known)
        bar.update()
        predictions = _of_first_targets(_predictions(model, frame.iloc[some], y[some], seed))
        report = check(predictions, private, level=LEVEL)
        if model.ends is None:
            report = _with_conformal(report, model, frame.iloc[some], y[some])
        else:
            report = replace(report, checks={t: _without_values(checks) for t, checks in report.checks.items()})
        bar.update()
        importance = importances(model, frame.iloc[shuffled], known[shuffled], repeats, seed, bar)
        report.figures.update(_figures_of_rows(model, frame.iloc[some], y[some], str(importance.index[0]), private))
        parts = parts_of(model.columns, frame, scores)
        nll = mean_over_rows(scores)
        rows = _observed_and_predicted(model, known, predicted)
        parts_of_page = [
            sections.short(model, predictions, report, y, predicted, parts, nll, plain_losses(model, frame, known)),
            sections.first_rows(model, rows),
            sections.calibration(model, predictions, report),
            sections.failures(rows, frame[list(model.columns.features)], scores, parts, len(model.targets)),
            sections.importances(importance, len(shuffled), repeats, len(model.columns.features)),
        ]
        template = Environment(autoescape=True, finalize=_in_one_line).from_string(
            files("pyro_probmix.tabular").joinpath("page.html").read_text("utf-8")
        )
        text = template.render(
            title=f"Check of {', '.join(model.targets)}",
            files=" ".join(sorted(path.name for path in private.iterdir())),
            summary=sections.summary(
                model, (total, len(frame), len(some)), source, nll, partly, len(predictions.targets)
            ),
            sections=parts_of_page,
        )
        (private / "check.html").write_text(text, "utf-8")
        made[:] = [path.name for path in private.iterdir()]

    with tqdm(total=steps, desc="checking", unit="step", leave=False, disable=None) as bar:  # none without a terminal
        write_files(target, fill, stale=lambda: expect_own_page(target, made))
    return target / "check.html"


def _with_targets(model: TableModel, frame: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that have a target, and their targets; a warning tells how many have none."""
    try:
        return frame, model.observed(frame)
    except MissingTargets as missing:
        kept = frame.drop(index=missing.rows.tolist()).reset_index(drop=True)
        if len(kept) < 2:
            raise
    warnings.warn(
        f"{len(frame) - len(kept)} of {len(frame)} rows have no target, and are left out.", UserWarning, stacklevel=3
    )
    return kept, model.observed(kept)


def _drawn_between(model: TableModel, frame: pd.DataFrame, ends: np.ndarray, seed: int) -> np.ndarray:
    """Targets, [n], of which those that are known up to an interval, [n, 2], are drawn there from the model's own density.

    Under a model that is right they are distributed as the targets, so that shares of rows in intervals can be checked.
    """
    low, high = ends.T
    estimator: Any = model.estimator
    levels = estimator.cdf(model.features(frame), np.stack([np.nextafter(low, -np.inf), high], 1))
    drawn = estimator.ppf(
        model.features(frame), levels[:, 0] + np.random.default_rng(seed).random(len(low)) * np.ptp(levels, axis=1)
    )
    # Far out in a tail all levels are one.
    drawn = np.where(np.isfinite(drawn), drawn, np.where(np.isfinite(low), low, high))
    return np.asarray(np.where(low == high, low, np.clip(drawn, low, high)))


def _mixed(model: TableModel) -> int:
    """The number of densities that are mixed for each row, of members and their draws of the embedding."""
    state = model.estimator.state_
    return state.recipe.members * (1 if state.noise is None else len(state.noise))


def _figures_of_rows(
    model: TableModel, frame: pd.DataFrame, y: np.ndarray, feature: str, folder: Path
) -> dict[str, Path]:
    """Observed values in their intervals, and the density along a column, of each target of numbers, the first few."""
    if isinstance(model.estimator, ProbMixClassifier):
        return {}
    paths: dict[str, Path] = {}
    features, named = model.features(frame), pd.DataFrame(y.reshape(len(y), -1), columns=list(model.targets))
    with default_style():
        for t in range(min(len(model.targets), MOST_DRAWN)):
            observed = named.iloc[:, 0] if y.ndim == 1 else named
            figures = model.estimator.plot(features, observed, feature=feature, coverage=LEVEL, target=t)
            for name, figure in zip(("intervals", "fan"), figures, strict=True):
                name += suffix_of(model.targets, t)
                paths[name] = folder / f"{name}.png"
                figure.savefig(paths[name], dpi=100)
    return paths


def _without_values(checks: dict[str, Estimate]) -> dict[str, Estimate]:
    """The numbers that hold where targets stand for what is not known of them: none of distances to their values."""
    return {name: found for name, found in checks.items() if name not in ("nll", "crps", "interval score")}


def _in_one_line(value: object) -> object:
    """A name as the page shows it; pictures are long and stay whole."""
    return printable(value) if type(value) is str and not value.startswith(_PNG) else value


def _with_conformal(report: CheckReport, model: TableModel, frame: pd.DataFrame, y: np.ndarray) -> CheckReport:
    """The report with coverage and width of conformal intervals, where rows were held out, and enough of them."""
    estimator = model.estimator
    if isinstance(estimator, ProbMixClassifier) or estimator.state_.scores is None:
        return report
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*are too few for a conformal interval", UserWarning)
        ends = estimator.predict_interval(model.features(frame), LEVEL, conformal=True).reshape(len(frame), -1, 2)
    if not np.isfinite(ends).all():
        return report
    checks = dict(report.checks)
    for t, (target, observed) in enumerate(zip(model.targets[:MOST_DRAWN], y.reshape(len(y), -1).T, strict=False)):
        low, high = ends[:, t].T
        inside = ((low <= observed) & (observed <= high)).astype(np.float64)
        found = {"conformal coverage": mean_over_rows(inside), "conformal width": mean_over_rows(high - low)}
        checks[target] = checks[target] | found
    return replace(report, checks=checks)


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
    device = next(model.estimator.density_.parameters()).device
    with own_random_state(device, seed), torch.no_grad():
        return to_predictions(model.estimator.predict_dist(x), torch.tensor(y), num_draws=400, **named)


def _of_first_targets(predictions: Predictions) -> Predictions:
    """The predictions of the targets whose calibration is on the page."""
    if len(predictions.targets) <= MOST_DRAWN:
        return predictions
    return Predictions(
        predictions.y[:, :MOST_DRAWN],
        predictions.draws[..., :MOST_DRAWN],
        densities=None if predictions.densities is None else predictions.densities[:MOST_DRAWN],
        targets=predictions.targets[:MOST_DRAWN],
        rows=predictions.rows,
    )


def _observed_and_predicted(model: TableModel, y: np.ndarray, predicted: pd.DataFrame) -> pd.DataFrame:
    """Observations beside predictions, target by target; of a target whose ends are given these."""
    if model.ends is not None:
        names = [f"{model.targets[0]} at least", f"{model.targets[0]} at most"]
        ends = pd.DataFrame(y, columns=names, index=predicted.index)
        return pd.concat([ends, predicted], axis=1)
    each = len(predicted.columns) // len(model.targets)
    parts: list[Any] = []
    for t, name in enumerate(model.targets):
        of_target = predicted.iloc[:, t * each : (t + 1) * each]
        # A predicted class has the name of the target, as the observed one has.
        of_target = of_target.rename(columns={name: f"{name} predicted"})
        observed = pd.Series(y.reshape(len(y), -1)[:, t], name=f"{name} observed", index=predicted.index)
        parts += [observed, of_target]
    table: pd.DataFrame = pd.concat(parts, axis=1)
    return table
