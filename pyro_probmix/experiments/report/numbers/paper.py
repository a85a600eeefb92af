"""The paper's tables, the published NLLs, and the units in which our numbers are compared with them."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd

__all__ = [
    "BASELINES",
    "METHODS",
    "PROBABILISTIC",
    "RMSE_FACTOR",
    "TABLES",
    "paper_tables",
    "published_nll",
    "scale_check",
    "scaled",
    "stock_power",
]

#: Table -> its experiment, its metric, and what it shows.
TABLES: dict[int, tuple[str, str, str]] = {
    1: ("uci", "nll", "NLL on the UCI sets"),
    2: ("stocks", "nll", "NLL on the stocks"),
    3: ("uci", "rmse", "RMSE on the UCI sets"),
    4: ("stocks", "rmse", "RMSE on the stocks"),
}

#: The columns of the paper's tables, in their order.
METHODS = (
    "ERM",
    "Mix",
    "LocMix",
    "M-Mix",
    "LocM-Mix",
    "ProbMix",
    "LocProbMix",
    "M-ProbMix",
    "LocM-ProbMix",
    "M-ProbMix*",
    "LocM-ProbMix*",
)
PROBABILISTIC = tuple(name for name in METHODS if "ProbMix" in name)
BASELINES = tuple(name for name in METHODS if "ProbMix" not in name)

#: Table 3 shows these two sets' RMSE times 100; their NLL in Table 1 is not scaled, see :func:`scale_check`.
RMSE_FACTOR = {"kin8nm": 100.0, "naval-propulsion-plant": 100.0}


@cache
def paper_tables() -> pd.DataFrame:
    """The paper's cells: table, metric, network, dataset, method, mean, std; 320 rows, in the paper's units.

    Example:
        >>> cells = paper_tables()
        >>> float(cells.query("table == 1 and dataset == 'yacht' and method == 'ERM'")["mean"].item())
        0.44
    """
    return _table("paper_tables.csv")


@cache
def published_nll() -> pd.DataFrame:
    """NLLs published on the same UCI splits, [source, dataset], the paper's lowest cells first.

    References:
        Gal and Ghahramani, 2016 (MC dropout); Lakshminarayanan et al., 2017 (deep ensembles); Duan et al., 2020 (NGBoost);
        Amini et al., 2020 (deep evidential regression); Matsubara, 2024 (Wasserstein gradient boosting).
    """
    table = _table("published_nll.csv").set_index("source")
    cells = paper_tables()
    lowest = cells[cells["table"] == 1].groupby("dataset")["mean"].min()
    return pd.concat([lowest.rename("the paper's best cell").to_frame().T[table.columns], table]).rename_axis("source")


def scaled(results: pd.DataFrame) -> pd.DataFrame:
    """Results with the UCI sets' RMSE in the paper's units: kin8nm and naval times 100, the others as they are."""
    factor = pd.Series([RMSE_FACTOR.get(name, 1.0) for name in results["dataset"]], results.index, dtype=float)
    rmse = results["metric"].isin(["rmse", "rmse (plug-in)"]) & (results["experiment"] == "uci")
    return results.assign(value=results["value"] * factor.where(rmse, 1.0))


def stock_power(ours: pd.Series, theirs: pd.Series) -> int:
    """The power of ten that brings our RMSEs of a stock nearest to the paper's, median to median.

    The paper divides each stock's numbers by a power of ten that it does not state.

    Example:
        >>> stock_power(pd.Series([21.0, 19.0]), pd.Series([2.2, 1.8]))
        -1
    """
    ratio = np.log10(theirs.median()) - np.log10(ours.median())
    return round(float(ratio)) if math.isfinite(ratio) else 0


def scale_check(network: str = "mlp") -> pd.DataFrame:
    r"""The paper's NLLs minus those of a constant Gaussian with the same RMSE, median over the methods.

    A Gaussian of constant width :math:`\sigma` equal to the RMSE has NLL :math:`\log \sigma + \frac12 \log 2 \pi e`. The
    difference is near 0 or moderately positive where NLL and RMSE are in one unit; in units 100 times larger or smaller it
    is off by :math:`\log 100 \approx 4.6`.

    Returns:
        one row for each data set: "as tabulated" takes the RMSE as it stands in the table, "unscaled" undoes the
        factor 100 of kin8nm and naval.
    """
    cells = paper_tables()
    cells = cells[cells["network"] == network].pivot_table(index=["dataset", "method"], columns="metric", values="mean")
    constant = 0.5 * math.log(2 * math.pi * math.e)
    factor = np.array([RMSE_FACTOR.get(name, 1.0) for name in cells.index.get_level_values("dataset")])
    gaps = pd.DataFrame(
        {
            "as tabulated": cells["nll"] - np.log(cells["rmse"]) - constant,
            "unscaled": cells["nll"] - np.log(cells["rmse"] / factor) - constant,
        }
    )
    return gaps.groupby("dataset").median()


def _table(name: str) -> pd.DataFrame:
    with files("pyro_probmix.experiments.report.numbers").joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file)
