"""Stock prices: windows without a look ahead, files that are not sound, downloads that fail or wait."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_probmix import METHODS, predict
from pyro_probmix.experiments.config import EXPERIMENTS, with_setting
from pyro_probmix.experiments.config.checks import check_config
from pyro_probmix.experiments.data import stocks
from pyro_probmix.experiments.data.problem import load_problem
from pyro_probmix.experiments.data.stocks import load_prices, windows_of
from pyro_probmix.experiments.run.measures import measure
from pyro_probmix.experiments.run.runner import method_density
from pyro_probmix.models import initialise

SHARED = Path(__file__).parents[4] / "shared" / "data"
rng = np.random.default_rng(0)


def random_prices(days):
    return 10 + np.exp(rng.normal(size=(days, 4)).cumsum(0) / 10)


def test_windows_and_targets_by_brute_force():
    prices = random_prices(120)
    windows = windows_of(prices, window=7, horizon=4)
    assert len(windows.x) == 120 - 7 - 4 + 1
    for i in range(len(windows.x)):
        np.testing.assert_array_equal(windows.x[i], prices[i : i + 7])
        assert windows.y[i] == prices[i + 6 + 4, 3]


@pytest.mark.parametrize(("days", "window", "horizon"), [(505, 42, 21), (120, 7, 4), (90, 10, 1)])
def test_no_day_of_the_test_span_reaches_training_or_validation(days, window, horizon):
    """Changing any prices from the first forecast's day on changes neither rows nor targets that learn; likewise before."""
    prices = random_prices(days)
    windows = windows_of(prices, window, horizon)
    train, validation, test = windows.split.train, windows.split.validation, windows.split.test
    for learning, first in ((np.concatenate([train, validation]), test[0]), (train, validation[0])):
        changed = prices.copy()
        changed[windows.last_day[first] + 1 :] *= rng.uniform(2, 3, (days - windows.last_day[first] - 1, 4))
        again = windows_of(changed, window, horizon)
        np.testing.assert_array_equal(again.x[learning], windows.x[learning])
        np.testing.assert_array_equal(again.y[learning], windows.y[learning])
        assert (windows.target_day[learning] <= windows.last_day[first]).all()
    # As many as there can be: the next window would know a day too many.
    assert windows.target_day[validation[-1] + 1] > windows.last_day[test[0]]
    assert not (again.y[test] == windows.y[test]).any()


def test_relative_prices_by_brute_force(tmp_path):
    """Windows over their last close, and test rows that come back in dollars, whatever a dollar is."""
    prices = random_prices(250)
    config = replace(EXPERIMENTS["stocks"], dataset="ABC", network="lstm", splits=(0, 1), data_dir=str(tmp_path))
    found = []
    for factor in (1, 10):
        days = zip(pd.bdate_range("2019-01-02", periods=250), factor * prices, strict=True)
        lines = [f"{day:%Y-%m-%d},{p[3]},{max(p)},{min(p)},{p[3]},9" for day, p in days]
        write(tmp_path, "\n".join([rows()[0], *lines]))
        found.append(load_problem(replace(config, setting="relative")))
    ours, tenfold = found
    windows = windows_of(load_prices("ABC", tmp_path).to_numpy())
    last = windows.x[:, -1, 3]
    changes = [windows.y[i] / last[i] - 1 for i in windows.split.train]
    for k, i in enumerate(windows.split.test):
        dollars = tenfold.test.y[1, k] * tenfold.scale[1, k] + tenfold.loc[1, k]
        assert float(dollars) == pytest.approx(windows.y[i], rel=1e-5)
        assert float(tenfold.scale[1, k]) == pytest.approx(np.std(changes) * last[i], rel=1e-5)
    torch.testing.assert_close(tenfold.train.x, ours.train.x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tenfold.test.y, ours.test.y, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(tenfold.scale, 10 * ours.scale)


def test_scores_of_relative_prices_are_those_of_the_density_in_dollars(tmp_path):
    prices = random_prices(250)
    days = zip(pd.bdate_range("2019-01-02", periods=250), prices, strict=True)
    write(tmp_path, "\n".join([rows()[0], *(f"{day:%Y-%m-%d},{p[3]},{max(p)},{min(p)},{p[3]},9" for day, p in days)]))
    config = replace(EXPERIMENTS["stocks"], dataset="ABC", network="lstm", splits=(0, 1), data_dir=str(tmp_path))
    config = replace(config, widths=(4,), setting="relative")
    problem = load_problem(config)
    density = method_density(METHODS["ERM"], config, problem, 2)
    initialise(density, (0, 1))
    values, _ = measure(density.eval(), problem, 3, 0)
    predictive = predict(density, problem.test.x, loc=problem.loc, scale=problem.scale)
    y = problem.test.y * problem.scale + problem.loc
    torch.testing.assert_close(torch.tensor(values["nll"]), -predictive.log_prob(y).mean(-1).detach())
    error = (predictive.mean.detach() - y).square().mean((1, 2)).sqrt()
    torch.testing.assert_close(torch.tensor(values["rmse"]), error)
    torch.testing.assert_close(torch.tensor(values["sharpness"]), predictive.variance.detach().mean((1, 2)).sqrt())


def test_the_relative_setting_is_one_of_stocks():
    with pytest.raises(ValueError, match=r"setting is relative for uci, expected stocks. Try --setting fixed"):
        check_config(replace(EXPERIMENTS["uci"], setting="relative"))
    stocks = EXPERIMENTS["stocks"]
    with pytest.raises(
        ValueError, match=r"targets is raw under the setting relative, which stands for targets stand.* Try"
    ):
        check_config(replace(stocks, setting="relative", targets="raw"))
    relative = with_setting(replace(stocks, targets="raw"), "relative")
    check_config(relative)
    assert relative == with_setting(with_setting(stocks, "paper"), "relative") == replace(stocks, setting="relative")


def write(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ABC.csv").write_text(text)


def rows(days=250):
    dates = pd.bdate_range("2019-01-02", periods=days).strftime("%Y-%m-%d")
    return [
        "Date,Open,High,Low,Close,Volume",
        *(f"{d},{k + 1},{k + 2},{k + 1},{k + 1.5},9" for k, d in enumerate(dates)),
    ]


def test_a_problem_of_windows_scales_by_the_training_rows(tmp_path, monkeypatch):
    write(tmp_path / "stocks", "\n".join(rows()))
    config = EXPERIMENTS["stocks"].__class__(**{**vars(EXPERIMENTS["stocks"]), "dataset": "ABC", "splits": (0, 1)})
    monkeypatch.setenv("PROBMIX_DATA", str(tmp_path))
    problem = load_problem(config)
    assert problem.train.x.shape[0] == 2 and problem.train.x.shape[2:] == (42, 4)
    np.testing.assert_allclose(problem.train.x.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(problem.train.x.std((1, 2), correction=0), 1, atol=1e-5)
    assert bool((problem.test.x[:, :, -1, 3].mean(1) > problem.train.x[:, :, -1, 3].mean(1)).all())


@pytest.mark.parametrize(
    ("line", "text", "sentence"),
    [
        (0, "Date,Open,High,Low", "has no column 'Close'"),
        (5, "2019-01-08,1,2,x,1,9", "line 6: Low is 'x', expected a price above 0"),
        (5, "2019-01-08,1,-2,1,1,9", "line 6: High is .*-2"),
        (5, "2019-01-08,1,2,1,,9", "line 6: Close is"),
        (5, "2018-01-08,1,2,1,1,9", "line 6: 2018-01-08 does not come after"),
        (5, "soon,1,2,1,1,9", "line 6: 'soon' is no date"),
        (5, "2019-01-08,1,1,2,1,9", "line 6: the high 1 is below the low 2"),
    ],
)
def test_files_that_are_not_sound(tmp_path, line, text, sentence):
    lines = rows()
    lines[line] = text
    write(tmp_path, "\n".join(lines))
    with pytest.raises(ValueError, match=sentence):
        load_prices("ABC", tmp_path)


def test_missing_empty_and_short_files(tmp_path):
    with pytest.raises(ValueError, match=r"holds no prices of ABC: neither .* Try another --data-dir"):
        load_prices("ABC", tmp_path)
    write(tmp_path, "")
    with pytest.raises(ValueError, match="cannot be read"):
        load_prices("ABC", tmp_path)
    with pytest.raises(ValueError, match="is no ticker"):
        load_prices("../ABC", tmp_path)
    with pytest.raises(ValueError, match=r"60 days are too few.*Try 189 days or more"):
        windows_of(random_prices(60))


class Server:
    """In the place of Yahoo Finance: refuses a number of times, then serves."""

    def __init__(self, refusals, error):
        self.refusals, self.error, self.asked = refusals, error, []

    def history(self, **options):
        self.asked.append(options)
        if len(self.asked) <= self.refusals:
            raise self.error
        frame = pd.DataFrame({name: [1.0, 2.0] for name in (*stocks.COLUMNS, "Adj Close")})
        return frame.set_index(pd.to_datetime(["2019-01-02", "2019-01-03"]).tz_localize("America/New_York"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("PROBMIX_DATA", raising=False)
    monkeypatch.setattr(stocks, "PATIENCE", (0.0, 0.0))
    return tmp_path / "pyro_probmix" / "stocks"


def test_a_download_waits_for_the_servers_limit_and_is_kept(cache, monkeypatch):
    from yfinance.exceptions import YFRateLimitError

    server = Server(2, YFRateLimitError())
    monkeypatch.setattr("yfinance.Ticker", lambda ticker: server)
    prices = load_prices("GOOG")
    assert len(server.asked) == 3 and server.asked[0]["auto_adjust"] is False
    assert list(prices.columns) == list(stocks.COLUMNS) and [path.name for path in cache.iterdir()] == ["GOOG.csv"]
    pd.testing.assert_frame_equal(load_prices("GOOG"), prices)
    assert len(server.asked) == 3


def test_a_download_that_fails_says_so_and_keeps_nothing(cache, monkeypatch):
    from yfinance.exceptions import YFRateLimitError

    for server, reason in (
        (Server(99, YFRateLimitError()), "asked too often"),
        (Server(99, OSError("no route")), "no route"),
        (Server(99, TypeError("'NoneType' object is not subscriptable")), "TypeError"),
        (Server(99, KeyError("chart")), "chart"),
    ):
        monkeypatch.setattr("yfinance.Ticker", lambda ticker, server=server: server)
        with pytest.raises(ValueError, match=rf"cannot download the prices of GOOG.*{reason}.*--data-dir"):
            load_prices("GOOG")
        assert not cache.exists()


@pytest.mark.parametrize("name", ["^GSPC", "EURUSD=X", "CL=F", "M&M.NS", "BRK-B"])
@pytest.mark.parametrize("fault", ["gap", "twice", "high"])
def test_a_download_that_is_not_sound_is_not_kept(cache, monkeypatch, name, fault):
    """Of tickers of every kind; the next try, when the server is well again, is kept."""
    whole = pd.DataFrame({name: [1.0, 2.0, 3.0] for name in stocks.COLUMNS})
    whole.index = pd.to_datetime(["2019-01-02", "2019-01-03", "2019-01-04"]).tz_localize("America/New_York")
    broken = whole.copy()
    broken.iloc[1, 1] = 0.5 if fault == "high" else np.nan
    served = [pd.concat([whole, whole[-1:]]) if fault == "twice" else broken, whole]
    monkeypatch.setattr("yfinance.Ticker", lambda _: SimpleNamespace(history=lambda **options: served.pop(0)))
    with pytest.raises(ValueError, match=f"the download of {re.escape(name)}, line"):
        load_prices(name)
    assert not cache.exists() and len(load_prices(name)) == 3
    pd.testing.assert_frame_equal(load_prices(name), load_prices(name))


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
@pytest.mark.parametrize("ticker", stocks.TICKERS)
def test_the_published_prices(ticker):
    prices = load_prices(ticker, SHARED)
    assert len(prices) == 505
    split = windows_of(prices.to_numpy()).split
    assert (len(split.train), len(split.validation), len(split.test)) == (247, 67, 89)
