"""An experiment's data, standardised and stacked over its splits, ready to train on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyro_probmix.experiments.config import Config
from pyro_probmix.experiments.data.regimes import fewer_rows, noisy, shifted
from pyro_probmix.experiments.data.stocks import load_prices, windows_of
from pyro_probmix.experiments.data.tables import Split, Standardizer, Table, train_validation_split
from pyro_probmix.experiments.data.toy import toy_classification, toy_regression
from pyro_probmix.experiments.data.uci import load_uci
from pyro_probmix.experiments.data.user_tables import load_table, random_split

__all__ = ["Part", "Problem", "load_problem"]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of all replicas: x [R, n, d], or windows of a series [R, n, T, d]; y [R, n, d_y], or classes [R, n]."""

    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> Part:
        """The same rows on a device."""
        return Part(self.x.to(device), self.y.to(device))

    def replicas(self, chosen: list[int]) -> Part:
        """The rows of some replicas."""
        return Part(self.x[chosen], self.y[chosen])


@dataclass(frozen=True, eq=False)
class Problem:
    """R splits of a task, each scaled by its training rows.

    Attributes:
        train, validation, test: the rows.
        loc, scale: mean and standard deviation of the targets of the training rows, [R, 1, d_y], in their units; 0 and
            1 for classes. Where each test row has units of its own, those of the test rows, [R, n, d_y].
        x_scaler: the scaling of the features.
        classes: names of the classes, none for regression.
        names: what the replicas are called, for example "split 3".
        num_outputs: d_y, or the number of classes.
    """

    train: Part
    validation: Part
    test: Part
    loc: Tensor
    scale: Tensor
    x_scaler: Standardizer
    classes: tuple[str, ...]
    names: tuple[str, ...]
    num_outputs: int

    def to(self, device: torch.device) -> Problem:
        """The same problem on a device."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
            loc=self.loc.to(device),
            scale=self.scale.to(device),
        )

    def replicas(self, chosen: list[int]) -> Problem:
        """The problem of some of the replicas, each as often as it is named."""
        return replace(
            self,
            train=self.train.replicas(chosen),
            validation=self.validation.replicas(chosen),
            test=self.test.replicas(chosen),
            loc=self.loc[chosen],
            scale=self.scale[chosen],
            x_scaler=Standardizer(self.x_scaler.mean[chosen], self.x_scaler.scale[chosen]),
            names=tuple(self.names[k] for k in chosen),
        )


def load_problem(config: Config) -> Problem:
    """Loads the data of a configuration and deals them into its splits.

    Raises:
        ValueError: for an unknown experiment, data set or split, or data that are not sound; the message says which.
    """
    unit = "split" if config.experiment == "uci" else "seed"
    names = tuple(f"{unit} {k}" for k in config.splits)
    problem = _series(config, names) if config.experiment == "stocks" else _table_problem(config, names)
    return problem if config.targets == "standardised" else _in_units(problem)


def _table_problem(config: Config, names: tuple[str, ...]) -> Problem:
    """The rows of a table or of a toy, whose targets are standardised."""
    toy = config.experiment != "table" and config.dataset in ("toy-regression", "toy-classification")
    if toy:
        return _stacked([_tables(config, k) for k in config.splits], names)
    dealt = _dealt(config)
    table = dealt[0][0]
    if config.label_noise > 0 and table.task == "classification":
        raise ValueError(
            f"label_noise is {config.label_noise} for the classes of {table.name}, expected the targets of a regression. Try "
            "leaving it out."
        )
    return _stacked([_harder(one, k, config) for one, k in zip(dealt, config.splits, strict=True)], names)


def _harder(dealt: tuple[Table, Table, Split], seed: int, config: Config) -> tuple[Table, Table, Split]:
    """A dealt table with the configuration's changes: its labels' noise is that of the rows that do not test alone."""
    table, test, split = dealt
    if config.shift:
        split = shifted(table.x, seed)
    if config.labelled_rows is not None:
        split = fewer_rows(split, config.labelled_rows, seed)
    if config.label_noise > 0:
        y = table.y.reshape(len(table.y), -1).astype(np.float64)
        noise = noisy(y, y[split.train].std(0), config.label_noise, config.noise_df, seed)
        table = replace(table, y=noise.reshape(table.y.shape))
    return table, test, split


def _in_units(problem: Problem) -> Problem:
    """The same problem with targets in their own units; classes are as they are."""
    if problem.classes:
        return problem

    def part(one: Part) -> Part:
        return Part(one.x, one.y * problem.scale + problem.loc)

    return replace(
        problem,
        train=part(problem.train),
        validation=part(problem.validation),
        test=part(problem.test),
        loc=torch.zeros_like(problem.loc),
        scale=torch.ones_like(problem.scale),
    )


def _tables(config: Config, seed: int) -> tuple[Table, Table, Split]:
    """One draw of a toy data set: training table, test table, and the rows of each."""
    draw = toy_regression if config.dataset == "toy-regression" else toy_classification
    train, test = draw(seed)
    rows, held_out = train_validation_split(len(train.x), seed=seed)
    return train, test, Split(rows, held_out, np.arange(len(test.x)))


def _dealt(config: Config) -> list[tuple[Table, Table, Split]]:
    """A table, dealt into its published splits or by the seeds."""
    if config.experiment == "uci":
        table, published = load_uci(config.dataset, config.data_dir)
        missing = [k for k in config.splits if not 0 <= k < len(published)]
        if missing:
            raise ValueError(
                f"{config.dataset} has the splits 0 to {len(published) - 1}, not {missing[0]}. "
                f"Try --splits {len(published)}."
            )
        return [(table, table, published[k]) for k in config.splits]
    table = load_table(config.dataset, config.target, config.task)  # type: ignore[arg-type] # checked where it is loaded
    return [(table, table, random_split(len(table.x), k)) for k in config.splits]


def _series(config: Config, names: tuple[str, ...]) -> Problem:
    """The windows of a stock's prices, the same for each seed; each kind of price is scaled by the training windows."""
    windows = windows_of(load_prices(config.dataset, config.data_dir).to_numpy())
    dollars = np.ones(1)
    if config.setting == "relative":
        dollars = windows.last_close[windows.split.test]
        windows = windows.relative()
    rows = (windows.split.train, windows.split.validation, windows.split.test)
    y_scaler = Standardizer.fit(windows.y[rows[0], None])
    x_scaler = Standardizer.fit(windows.x[rows[0]].reshape(-1, windows.x.shape[-1]))
    copies = len(names)

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.stack([values] * copies), dtype=torch.float32)

    train, validation, test = (
        Part(tensor(x_scaler.transform(windows.x[part])), tensor(y_scaler.transform(windows.y[part, None])))
        for part in rows
    )
    return Problem(
        train,
        validation,
        test,
        loc=tensor(dollars[:, None] * ((config.setting == "relative") + y_scaler.mean)),
        scale=tensor(dollars[:, None] * y_scaler.scale),
        x_scaler=Standardizer(np.stack([x_scaler.mean] * copies), np.stack([x_scaler.scale] * copies)),
        classes=(),
        names=names,
        num_outputs=1,
    )


def _stacked(dealt: list[tuple[Table, Table, Split]], names: tuple[str, ...]) -> Problem:
    table = dealt[0][0]
    x = [np.stack([source.x[rows] for source, rows in part]) for part in _parts(dealt)]
    y = [np.stack([source.y[rows] for source, rows in part]) for part in _parts(dealt)]
    with np.errstate(over="ignore", invalid="ignore"):
        x_scaler = Standardizer.fit(x[0])
    with np.errstate(over="ignore", invalid="ignore"):
        x = [x_scaler.transform(part) for part in x]
    if not all(np.isfinite(values).all() for values in (*x, x_scaler.scale)):
        raise ValueError(f"{table.name}: some features overflow when they are standardised. Try them in other units.")
    if table.task == "classification":
        missing = sorted(set(range(len(table.classes))) - set(np.unique(y[0])))
        if missing:
            raise ValueError(
                f"{table.name}: no split has class {table.classes[missing[0]]!r} among its training rows. Try more rows of it, "
                "or a regression."
            )
        loc, scale = np.zeros((len(dealt), 1, 1)), np.ones((len(dealt), 1, 1))
        targets = [torch.as_tensor(part) for part in y]
    else:
        y = [part.reshape(*part.shape[:2], -1) for part in y]
        y_scaler = Standardizer.fit(y[0])
        if not np.isfinite(y_scaler.scale).all():
            raise ValueError(f"{table.name}: the targets overflow when they are standardised. Try them in other units.")
        loc, scale = y_scaler.mean, y_scaler.scale
        targets = [torch.as_tensor(y_scaler.transform(part), dtype=torch.float32) for part in y]
    train, validation, test = (
        Part(torch.as_tensor(features, dtype=torch.float32), target)
        for features, target in zip(x, targets, strict=True)
    )
    return Problem(
        train,
        validation,
        test,
        loc=torch.as_tensor(loc, dtype=torch.float32),
        scale=torch.as_tensor(scale, dtype=torch.float32),
        x_scaler=x_scaler,
        classes=table.classes,
        names=names,
        num_outputs=len(table.classes) or targets[0].shape[-1],
    )


def _parts(dealt: list[tuple[Table, Table, Split]]) -> list[list[tuple[Table, np.ndarray]]]:
    """For train, validation and test: table and rows of each replica."""
    return [
        [(train, split.train) for train, _, split in dealt],
        [(train, split.validation) for train, _, split in dealt],
        [(test, split.test) for _, test, split in dealt],
    ]
