"""Predictions as ArviZ's data: InferenceData for arviz 0.x, an xarray DataTree for 1.x, with the same groups and names."""

from __future__ import annotations

import os
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_probmix.arguments import checked
from pyro_probmix.calibration.densities.predictions import Predictions
from pyro_probmix.files import write_file
from pyro_probmix.unfinished import Save

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["SMALLEST_FOR_LOO", "arviz_version", "loo", "netcdf_of", "save_netcdf", "to_arviz"]

#: With fewer draws of the parameters the Pareto tail has too few points in ArviZ 0.x or 1.x.
SMALLEST_FOR_LOO = 30


@checked()
def to_arviz(predictions: Predictions, *, target: str | None = None, paired: bool = False) -> Any:
    """Predictions as the object that the installed ArviZ works with.

    Args:
        predictions: of N rows and T responses.
        target: the name of one response, which then stands alone, without the dimension ``target``, as ``plot_ppc_pit``,
            ``plot_ppc_pava`` and others of arviz 1.x ask for.
        paired: whether to keep one predictive draw for each draw of the parameters, as ``loo_pit``, ``loo_score``,
            ``loo_influence`` and ``plot_loo_pit`` ask for.

    Returns:
        ``arviz.InferenceData`` with arviz 0.x, ``xarray.DataTree`` with arviz 1.x. Groups, each with the variable ``y``, in
        the units of the response, but for the features ``x``:

        * ``posterior_predictive`` (chain, draw, row, target): the members of an ensemble are the chains;
        * ``observed_data`` (row, target);
        * ``constant_data`` (row, feature), if there are features;
        * ``log_likelihood`` (chain, draw, row), of all targets together, for each draw of the parameters, if given;
        * ``posterior`` (chain, draw), with it: ``mean_log_likelihood`` over the rows, for each draw of the parameters, all of
          them in one chain, since they are independent. ArviZ's ``loo`` and ``compare`` ask for such a group.

        ``row``, ``target`` and ``feature`` have the names as coordinates, and each chain its ``member``.

    Raises:
        ValueError: for a target of another name, or predictions whose draws have no pairs.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> data = to_arviz(Predictions(y=rng.normal(size=8), draws=rng.normal(size=(5, 10, 8)), targets=["speed"]))
        >>> dict(data["posterior_predictive"].sizes)
        {'chain': 5, 'draw': 10, 'row': 8, 'target': 1}
    """
    from xarray import DataTree

    groups = _groups(predictions, _paired(predictions) if paired else predictions.draws)
    if target is not None:
        groups = {name: _of_target(group, target) for name, group in groups.items()}
    if arviz_version() == 0:
        return _arviz().InferenceData(**groups)
    return DataTree.from_dict(groups)


def arviz_version() -> int:
    """0 for arviz 0.x, 1 for arviz 1.x."""
    return int(_arviz().__version__.split(".")[0])


def _arviz() -> Any:
    """ArviZ, imported when it is needed; its versions differ in types."""
    return import_module("arviz")


def _paired(predictions: Predictions) -> np.ndarray:
    """One predictive draw for each draw of the parameters: all of a member's, or the first of each member."""
    draws, log_likelihood = predictions.draws, predictions.log_likelihood
    count = 0 if log_likelihood is None else log_likelihood.shape[1]
    if count not in (1, draws.shape[1]):
        raise ValueError(
            f"paired=True got {draws.shape[1]} predictive draws and {count} log-likelihoods of each member, expected one "
            "log-likelihood for a member, or for a draw. Try Predictions(..., log_likelihood=...)."
        )
    return draws[:, :count]


def _of_target(group: Dataset, target: str) -> Dataset:
    """A group with one response alone."""
    if "target" not in group.dims:
        return group
    names = group["target"].values.tolist()
    if target not in names:
        raise ValueError(
            f"target is {target!r}, expected one of {', '.join(map(repr, names))}. Try target={names[0]!r}."
        )
    return group.sel(target=target, drop=True)


def _groups(predictions: Predictions, predicted: np.ndarray) -> dict[str, Dataset]:
    from xarray import Dataset

    chains = np.arange(len(predictions.members))
    member = ("chain", np.asarray(predictions.members, dtype=str))
    row, target = _labels(predictions.rows), np.asarray(predictions.targets, dtype=str)
    attributes: dict[str, Any] = {"inference_library": "pyro_probmix", "kind": predictions.kind}
    if predictions.classes:
        attributes["classes"] = list(predictions.classes)

    def draws(values: np.ndarray, *dims: str) -> Dataset:
        coords = {"chain": chains, "draw": np.arange(values.shape[1]), "row": row, "member": member}
        coords |= {"target": target} if "target" in dims else {}
        return Dataset({"y": (("chain", "draw", *dims), values)}, coords, attributes)

    groups = {
        "posterior_predictive": draws(predicted, "row", "target"),
        "observed_data": Dataset({"y": (("row", "target"), predictions.y)}, {"row": row, "target": target}, attributes),
    }
    if predictions.x is not None:
        coords = {"row": row, "feature": np.asarray(predictions.features, dtype=str)}
        groups["constant_data"] = Dataset({"x": (("row", "feature"), predictions.x)}, coords, attributes)
    if predictions.log_likelihood is not None:
        groups["log_likelihood"] = draws(predictions.log_likelihood, "row")
        mean = predictions.log_likelihood.mean(-1).reshape(1, -1)
        groups["posterior"] = Dataset({"mean_log_likelihood": (("chain", "draw"), mean)}, attrs=attributes)
    return groups


def _labels(rows: tuple[Any, ...]) -> np.ndarray:
    """Names of rows as an array that a file can hold: numbers and dates stay what they are."""
    try:
        array = np.asarray(rows)
    except ValueError:  # a name is a tuple, another one is none
        array = np.empty(0)
    return array if array.shape == (len(rows),) and array.dtype != object else np.array([str(row) for row in rows])


def loo(data: Any) -> Any:
    """ArviZ's leave-one-out estimate of the expected log predictive density, by Pareto-smoothed importance sampling.

    It estimates how each row that was *fitted* would be predicted by a fit without it, so give it :func:`to_arviz` of the
    training rows. Held-out rows need no such estimate: the mean log score is one.

    Args:
        data: from :func:`to_arviz`, with a log-likelihood for each draw of the parameters: the members of an ensemble, or
            draws of a Bayesian network's weights.

    Returns:
        ``arviz.ELPDData``, pointwise, with a Pareto k for each row.

    Raises:
        ValueError: if there is no log-likelihood, or there are too few draws of the parameters for a Pareto tail, as from a
            single point fit.

    Warns:
        UserWarning: ArviZ's own, where a Pareto k is too large for the estimate to be trusted.

    Reference:
        Vehtari, Gelman, Gabry (2017). *Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC*.
        Statistics and Computing 27.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y, slope = rng.normal(size=20), 1 + 0.01 * rng.normal(size=(100, 1, 1))
        >>> log_likelihood = -0.5 * (slope * y) ** 2
        >>> data = to_arviz(Predictions(y=y, draws=rng.normal(size=(100, 2, 20)), log_likelihood=log_likelihood))
        >>> bool(loo(data).pareto_k.max() < 0.5)
        True
    """
    _check_kind(data)
    sizes = dict(data["log_likelihood"].sizes) if "log_likelihood" in _names(data) else {}
    count = sizes.get("chain", 0) * sizes.get("draw", 0)
    if count < SMALLEST_FOR_LOO:
        raise ValueError(
            f"LOO got {count} draws of the parameters, expected at least {SMALLEST_FOR_LOO}: ensemble members, or draws of "
            "Bayesian weights. Try a larger ensemble, or the log score of held-out rows, which needs none."
        )
    return _arviz().loo(data, pointwise=True, reff=1.0)  # members of an ensemble are independent


@checked()
def save_netcdf(data: Any, path: str | os.PathLike[str]) -> Path:
    """Writes the data of :func:`to_arviz` as NetCDF; a file that was there is replaced only once all is written.

    ``arviz.from_netcdf`` reads it.

    Args:
        data: from :func:`to_arviz`.
        path: of the file, in a folder that exists.

    Returns:
        the path.

    Raises:
        ValueError: if the folder cannot be written to.
    """
    _check_kind(data)
    return write_file(path, netcdf_of(data), advice="Try another folder.")


def netcdf_of(data: Any) -> Save:
    """Writes the data of :func:`to_arviz` to a path."""
    return lambda path: path.write_bytes(_as_netcdf(data))


def _as_netcdf(data: Any) -> bytes:
    """The data of :func:`to_arviz` as a NetCDF file holds it.

    It is made in memory: the HDF5 library crashes the process, rather than raise, where a disk is full.
    """
    from xarray import Dataset
    from xarray.backends import H5NetCDFStore

    content = BytesIO()
    with import_module("h5netcdf").File(content, "w") as file:
        for name in _names(data):
            group = data[name] if isinstance(data[name], Dataset) else data[name].to_dataset()
            group.dump_to_store(H5NetCDFStore(file, group=name, mode="a"))
    return content.getvalue()


def _names(data: Any) -> list[str]:
    """The names of the groups, which ArviZ 0.x and 1.x say in different ways."""
    names = data.groups() if callable(data.groups) else [group.lstrip("/") for group in data.groups]
    return [name for name in names if name]


def _check_kind(data: Any) -> None:
    if not hasattr(data, "groups") or not hasattr(data, "to_netcdf"):
        raise TypeError(
            f"got a {type(data).__name__}, expected an InferenceData or DataTree, as to_arviz gives. Try to_arviz(predictions)."
        )
