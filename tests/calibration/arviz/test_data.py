"""The object for ArviZ, the same with ArviZ 0.x and 1.x: groups, names, the way through a file, leave-one-out."""

import errno
import os
import subprocess
import sys

import arviz
import numpy as np
import pytest

from pyro_probmix.calibration import Predictions, loo, save_netcdf, to_arviz
from tests.calibration.arviz import cases

TWO = {"targets": ("speed", "load"), "x": np.ones((cases.ROWS, 2)), "features": ["a", "é"], "members": ["m", "n", "o"]}


def test_the_type_is_that_of_the_installed_arviz():
    kind = "InferenceData" if int(arviz.__version__.split(".")[0]) == 0 else "DataTree"
    assert type(to_arviz(cases.continuous())).__name__ == kind


def test_groups_and_names():
    rows = [f"row {i}" for i in range(cases.ROWS)]
    predictions = cases.continuous(**TWO, rows=rows)
    data = to_arviz(predictions)
    sizes = {name: dict(data[name].sizes) for name in ("posterior_predictive", "observed_data", "constant_data")}
    assert sizes == {
        "posterior_predictive": {"chain": 3, "draw": 40, "row": 60, "target": 2},
        "observed_data": {"row": 60, "target": 2},
        "constant_data": {"row": 60, "feature": 2},
    }
    assert dict(data["log_likelihood"].sizes) == {"chain": 3, "draw": 1, "row": 60}
    drawn = data["posterior_predictive"]["y"]
    np.testing.assert_array_equal(drawn, predictions.draws)
    assert list(drawn["target"].values) == ["speed", "load"] and list(drawn["member"].values) == ["m", "n", "o"]
    assert list(data["observed_data"]["row"].values) == rows
    np.testing.assert_array_equal(drawn.sel(row="row 7", target="load"), predictions.draws[:, :, 7, 1])
    assert list(data["constant_data"]["feature"].values) == ["a", "é"]


@pytest.mark.parametrize("what", [cases.continuous, cases.counts, cases.classes])
def test_through_a_file(what, tmp_path):
    data = to_arviz(what())
    path = save_netcdf(data, tmp_path / "predictions.nc")
    read = arviz.from_netcdf(path)
    for group in ("posterior_predictive", "observed_data"):
        assert read[group]["y"].equals(data[group]["y"]) and read[group]["y"].dtype == data[group]["y"].dtype
    assert read["observed_data"].attrs["kind"] == what().kind
    if what is cases.classes:
        assert list(read["observed_data"].attrs["classes"]) == ["setosa", "versicolor", "virginica"]
    read.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["predictions.nc"]


@pytest.mark.parametrize(
    "rows", [np.arange("2026-01-01", "2026-03-02", dtype="datetime64[D]"), ["a", 2, None] * 20, [1] * 60]
)
def test_rows_of_any_name_go_through_a_file(rows, tmp_path):
    save_netcdf(to_arviz(cases.continuous(rows=list(rows))), tmp_path / "predictions.nc")
    read = arviz.from_netcdf(tmp_path / "predictions.nc")
    expected = [str(row) for row in rows] if "a" in list(rows) else list(rows)
    assert list(read["observed_data"]["row"].values) == expected
    read.close()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    data = to_arviz(cases.continuous())
    path = save_netcdf(data, tmp_path / "predictions.nc")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"nowhere.* could not be written.*Try another folder"):
        save_netcdf(data, tmp_path / "nowhere" / "predictions.nc")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match=r"could not be written \(No space left.*Try another folder"):
        save_netcdf(data, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("room", [1, 1000, 20_000, 60_000])
def test_a_disk_that_is_full_gives_one_sentence(room, tmp_path):
    """In a process of its own, which the HDF5 library would crash if it wrote to the disk itself."""
    code = (
        "import resource, sys; from tests.calibration.arviz import cases\n"
        "from pyro_probmix.calibration import save_netcdf, to_arviz\n"
        "data = to_arviz(cases.continuous())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "try: save_netcdf(data, sys.argv[2])\n"
        "except ValueError as error: print(error)"
    )
    place = tmp_path / "predictions.nc"
    done = subprocess.run(
        [sys.executable, "-c", code, str(room), str(place)], capture_output=True, text=True, check=True
    )
    assert "predictions.nc' could not be written (" in done.stdout and done.stdout.endswith("Try another folder.\n")
    assert not os.listdir(tmp_path)


def test_leave_one_out_with_draws_of_the_parameters():
    """400 members that hardly differ: close to the log score, a bit below it, and no Pareto k to warn of."""
    predictions = cases.continuous(num_members=400)
    estimate = loo(to_arviz(predictions))
    elpd = float(getattr(estimate, "elpd" if hasattr(estimate, "elpd") else "elpd_loo"))
    in_sample = float(predictions.log_score().sum())
    assert in_sample - 3 < elpd < in_sample
    assert estimate.n_samples == 400 and estimate.n_data_points == 60
    assert np.isfinite(np.asarray(estimate.pareto_k)).all() and not estimate.warning


@pytest.mark.parametrize("members", [1, 5, 29])
def test_leave_one_out_is_refused_with_too_few(members):
    with pytest.raises(ValueError, match=rf"LOO got {members} draws of the parameters, expected at least 30.*Try"):
        loo(to_arviz(cases.continuous(num_members=members)))


def test_leave_one_out_is_refused_without_a_log_likelihood():
    with pytest.raises(ValueError, match=r"LOO got 0 draws of the parameters.*Try"):
        loo(to_arviz(cases.counts()))


def test_neither_the_checks_nor_arviz_need_torch():
    code = (
        "import sys; import numpy as np; from pyro_probmix.calibration import Predictions, to_arviz; "
        "to_arviz(Predictions(y=np.zeros(3), draws=np.zeros((1, 2, 3)))); "
        "assert not {'torch', 'pyro', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"draws": np.zeros((2, 5))}, r"y has the shape \(5,\) and draws \(2, 5\).*Try draws\[None\]"),
        ({"draws": np.zeros((1, 2, 4))}, r"draws \(1, 2, 4\).*Try"),
        ({"kind": "nominal"}, r"kind is 'nominal'.*Try"),
        ({"kind": "count", "y": [0, 1, 2, 3, -1]}, r"y has the value -1.0, expected counts.*Try"),
        ({"kind": "count", "draws": np.full((1, 2, 5), 0.5)}, r"draws has the value 0.5, expected counts.*Try"),
        ({"kind": "class"}, r"without probabilities.*Try"),
        ({"kind": "class", "probabilities": np.ones((5, 1, 2, 3))}, r"probabilities has the shape .*Try"),
        ({"log_likelihood": np.zeros((2, 1, 5))}, r"log_likelihood has the shape .* \[1, any, 5\].*Try"),
        ({"x": np.zeros(5)}, r"x has the shape \(5,\), expected \[N, F\].*Try"),
        ({"targets": ["a", "b"]}, r"targets has 2 entries, expected 1.*Try"),
        (
            {"y": np.zeros((5, 2)), "draws": np.zeros((1, 2, 5, 2)), "targets": ["a", "a"]},
            r"targets has an entry twice.*Try",
        ),
        ({"draws": np.full((1, 2, 5), np.nan)}, r"draws\[0, 0, 0\] is nan.*Try"),
    ],
)
def test_errors(change, match):
    with pytest.raises(ValueError, match=match):
        Predictions(**({"y": np.zeros(5), "draws": np.zeros((1, 2, 5))} | change))
