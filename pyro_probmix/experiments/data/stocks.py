"""Daily stock prices, from a folder or downloaded once into a cache, and their windows, split in time without leakage."""

from __future__ import annotations

__all__ = ["TICKERS", "Windows", "load_prices", "windows_of"]

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pooch

from pyro_probmix.experiments.data.tables import FloatArray, Split
from pyro_probmix.files import write_files
from pyro_probmix.names import shown

TICKERS = ("GOOG", "GME", "NVDA", "RCL")
COLUMNS = ("Open", "High", "Low", "Close")
FIRST, LAST = "2019-01-01", "2021-01-01"  # the last one is not included
WINDOW, HORIZON = 42, 21
#: Tickers of Yahoo Finance: indices as ^GSPC, currencies as EURUSD=X, futures as CL=F, shares as M&M.NS or BRK-B.
_TICKER = re.compile(r"\^?[A-Za-z0-9][A-Za-z0-9.&=_^-]{0,19}")
#: Seconds to wait before each further try of a download, where the server limits the rate.
PATIENCE = (5.0, 20.0, 60.0)


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of a series of prices and what follows them.

    Attributes:
        x: the W days of each window, [n, W, 4]: open, high, low, close, in dollars.
        y: the close H days after each window's last day, [n].
        split: windows that train, validate and test, in the order of time.
        last_day: position of each window's last day in the series, [n].
        target_day: position of each target's day, [n].
    """

    x: FloatArray
    y: FloatArray
    split: Split
    last_day: np.ndarray
    target_day: np.ndarray

    @property
    def last_close(self) -> FloatArray:
        """The close of each window's last day, in dollars, [n]."""
        closes: FloatArray = self.x[:, -1, COLUMNS.index("Close")]
        return closes

    def relative(self) -> Windows:
        """The same windows and targets as changes from the window's last close, in parts of it."""
        last = self.last_close
        return replace(self, x=self.x / last[:, None, None] - 1, y=self.y / last - 1)


def windows_of(prices: FloatArray, window: int = WINDOW, horizon: int = HORIZON, share: float = 0.2) -> Windows:
    r"""Cuts a series into windows :math:`x_i = (S_i, \dots, S_{i+W-1})` with targets :math:`y_i = S^{close}_{i+W-1+H}`.

    The last fifth of the windows tests. The test span begins after the first test window's last day, where its forecast is
    made: no training or validation window or target reaches into it, so that nothing is learnt from a day that was still to
    come. H - 1 windows in between are left out for that. The last fifth of the rest validates, kept apart from the windows
    that train in the same way.

    Args:
        prices: open, high, low and close of each day, [T, 4].
        window: W, days.
        horizon: H, days from the window's last day to the target's.
        share: of the windows that test, and of the others that validate.

    Raises:
        ValueError: if the series is too short.

    References:
        El-Laham et al., 2025, section 6.3.

    Example:
        >>> import numpy as np
        >>> windows = windows_of(np.ones((505, 4)))
        >>> len(windows.split.train), len(windows.split.validation), len(windows.split.test)
        (247, 67, 89)
    """
    n = len(prices) - window - horizon + 1
    first = np.arange(max(n, 0))
    last_day = first + window - 1
    target_day = last_day + horizon
    rest, test = _before(last_day, target_day, first, share)
    train, validation = _before(last_day, target_day, rest, share)
    if not len(train):
        raise ValueError(
            f"{len(prices)} days are too few for windows of {window} days, targets {horizon} days ahead, and rows to train, "
            f"validate and test. Try {3 * (window + horizon)} days or more."
        )
    x = np.lib.stride_tricks.sliding_window_view(prices, window, axis=0)[: len(first)].transpose(0, 2, 1)
    y = prices[target_day, COLUMNS.index("Close")]
    return Windows(np.ascontiguousarray(x), y, Split(train, validation, test), last_day, target_day)


def _before(
    last_day: np.ndarray, target_day: np.ndarray, rows: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose targets were known when the first of the last share was forecast, and that last share."""
    later = rows[len(rows) - round(share * len(rows)) :]
    if not len(later):
        return rows[:0], later
    known = rows[target_day[rows] <= last_day[later[0]]]
    return known, later


def load_prices(ticker: str, data_dir: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Daily open, high, low and close of 2019 and 2020, adjusted for splits and not for dividends.

    Args:
        ticker: For example one of `TICKERS`.
        data_dir: A folder that holds `stocks/<ticker>.csv` or `<ticker>.csv`, with the columns Date, Open, High, Low and
            Close; by default the one that the environment variable PROBMIX_DATA names. With neither, they are downloaded
            once from Yahoo Finance into the user's cache folder.

    Returns:
        One row for each trading day, in their order, dates as the index.

    Raises:
        ValueError: If there are no such prices, or they are not sound; the message names the file and the line.
    """
    if not _TICKER.fullmatch(ticker):
        raise ValueError(
            f"{shown(ticker)} is no ticker, expected letters, digits and . - ^ = & _ alone, 20 at most. Try one of "
            f"{', '.join(TICKERS)}."
        )
    folder = data_dir or os.environ.get("PROBMIX_DATA")
    if folder is not None:
        places = [Path(folder) / "stocks" / f"{ticker}.csv", Path(folder) / f"{ticker}.csv"]
        place = next((place for place in places if place.is_file()), None)
        if place is None:
            raise ValueError(
                f"the data folder holds no prices of {ticker}: neither {places[0]} nor {places[1]} is a file. "
                "Try another --data-dir (or PROBMIX_DATA), or leave it out to download them."
            )
        return _read(place)
    cached = Path(pooch.os_cache("pyro_probmix")) / "stocks" / f"{ticker}.csv"
    if not cached.exists():
        prices = _downloaded(ticker)
        _checked(prices.rename_axis("Date").reset_index(), f"the download of {ticker}")  # before it is kept
        _keep(prices, cached)
    return _read(cached)


def _read(path: Path) -> pd.DataFrame:
    """The checked prices of a file."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}. Try writing it again.") from None
    return _checked(frame, str(path))


def _checked(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """The prices of a table with a column Date; raises ValueError for what is not sound."""
    missing = [name for name in ("Date", *COLUMNS) if name not in frame.columns]
    if missing:
        raise ValueError(
            f"{source} has no column {shown(missing[0])}, expected Date, {', '.join(COLUMNS)}. Try another file."
        )
    is_text = not pd.api.types.is_datetime64_any_dtype(frame["Date"])
    dates = pd.to_datetime(frame["Date"], format="%Y-%m-%d" if is_text else None, errors="coerce")
    prices = frame[list(COLUMNS)].apply(pd.to_numeric, errors="coerce")
    high, low = prices["High"].to_numpy(), prices["Low"].to_numpy()
    sound = np.isfinite(prices.to_numpy()) & (prices.to_numpy() > 0)
    for row, (date, fine) in enumerate(zip(dates, sound.all(1), strict=True)):
        line = row + 2  # the header is line 1
        if pd.isna(date):
            raise ValueError(
                f"{source}, line {line}: {shown(frame['Date'][row])} is no date, expected one like 2019-01-02."
            )
        if row and date <= dates[row - 1]:
            raise ValueError(
                f"{source}, line {line}: {date.date()} does not come after the day before it. Try sorting it."
            )
        if not fine:
            name = COLUMNS[int(np.flatnonzero(~sound[row])[0])]
            raise ValueError(
                f"{source}, line {line}: {name} is {shown(frame[name].iloc[row])}, expected a price above 0. "
                "Try downloading it again."
            )
        if high[row] < low[row]:
            raise ValueError(
                f"{source}, line {line}: the high {high[row]:g} is below the low {low[row]:g}, expected it above. "
                "Try downloading it again."
            )
    inside = np.asarray((dates >= pd.Timestamp(FIRST)) & (dates < pd.Timestamp(LAST)))
    if not inside.any():
        raise ValueError(f"{source} has no day from {FIRST} to {LAST}. Try downloading these.")
    within: pd.DataFrame = prices[inside].set_index(dates[inside])
    return within


def _keep(prices: pd.DataFrame, path: Path) -> None:
    """Writes prices to the cache, whole or not at all."""
    save = partial(prices.to_csv, date_format="%Y-%m-%d", index_label="Date")
    advice = "Try making this cache writable, or name a folder that holds the prices with --data-dir (or PROBMIX_DATA)."
    write_files(path.parent, {path.name: save}, advice=advice)


@contextmanager
def _raising(yfinance: Any) -> Iterator[dict[str, bool]]:
    """Lets yfinance raise what goes wrong, which it hides otherwise; yields arguments for versions without a switch."""
    debug = getattr(getattr(yfinance, "config", None), "debug", None)
    if debug is None:  # before yfinance 1.0
        yield {"raise_errors": True}
        return
    before = debug.hide_exceptions
    debug.hide_exceptions = False
    try:
        yield {}
    finally:
        debug.hide_exceptions = before


def _downloaded(ticker: str, sleep: Callable[[float], None] = time.sleep) -> pd.DataFrame:
    """The prices from Yahoo Finance; waits and tries again where the server limits the rate."""
    import yfinance
    from yfinance.exceptions import YFRateLimitError

    reason = "no rows came"
    for pause in (0.0, *PATIENCE):
        sleep(pause)
        try:
            with _raising(yfinance) as options:
                frame: Any = yfinance.Ticker(ticker).history(
                    start=FIRST, end=LAST, auto_adjust=False, actions=False, **options
                )
        except YFRateLimitError:
            reason = "it was asked too often"
            continue
        except (
            Exception
        ) as error:  # a ticker that is not there, no network, and what it makes of an answer that is nonsense
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": .")
            break
        if frame is not None and len(frame) and set(COLUMNS) <= set(frame.columns):
            frame.index = frame.index.tz_localize(None).normalize()
            prices: pd.DataFrame = frame[list(COLUMNS)]
            return prices
        break
    raise ValueError(
        f"cannot download the prices of {ticker} from Yahoo Finance ({reason}). Try again later, or name a folder that holds "
        f"stocks/{ticker}.csv with --data-dir (or PROBMIX_DATA)."
    )
