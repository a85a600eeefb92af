"""The UCI sets: what a folder or a download may hold, and what the published files hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from socket import socket
from threading import Thread

import numpy as np
import pooch
import pytest

from pyro_probmix.experiments.data import uci
from pyro_probmix.experiments.data.uci import UCI_DATASETS, UCI_ROWS, load_uci

PUBLISHED = {
    "bostonHousing": (506, 13, 51),
    "concrete": (1030, 8, 103),
    "energy": (768, 8, 77),
    "kin8nm": (8192, 8, 819),
    "naval-propulsion-plant": (11934, 16, 1193),
    "power-plant": (9568, 4, 957),
    "wine-quality-red": (1599, 11, 160),
    "yacht": (308, 6, 31),
}


@pytest.fixture
def published() -> Path:
    """The folder of the published files, as they are downloaded."""
    folder = Path(os.environ.get("PROBMIX_DATA") or Path(__file__).parents[4] / "shared" / "data")
    if not (folder / "uci").is_dir():
        pytest.skip("the published UCI files are not here; name their folder in PROBMIX_DATA")
    return folder


@pytest.mark.parametrize("name", UCI_DATASETS)
def test_the_published_sets_have_their_sizes_and_20_splits(name: str, published: Path) -> None:
    rows, features, testing = PUBLISHED[name]
    table, splits = load_uci(name, published)
    assert table.x.shape == (rows, features) and rows == UCI_ROWS[name]
    assert table.y.shape == (rows,)
    assert len(splits) == 20
    for k, split in enumerate(splits):
        assert len(split.test) == testing
        assert len(split.validation) == round((rows - testing) * 0.2)
        every = np.concatenate([split.train, split.validation, split.test])
        np.testing.assert_array_equal(np.sort(every), np.arange(rows))
        given = np.loadtxt(published / "uci" / name / f"index_train_{k}.txt").astype(int)
        np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.validation])), np.sort(given))


def test_the_yacht_table_is_the_published_one(published: Path) -> None:
    table, splits = load_uci("yacht", published)
    np.testing.assert_array_equal(table.x[1], [-2.3, 0.568, 4.78, 3.99, 3.17, 0.15])
    assert table.y[1] == 0.27
    np.testing.assert_array_equal(splits[0].test[:2], [121, 115])


def test_every_file_of_every_set_has_a_checksum() -> None:
    lines = resources.files("pyro_probmix.experiments.data").joinpath("uci_sha256.txt").read_text().splitlines()
    expected = {f"{name}/data/{file}" for name in UCI_DATASETS for file in uci.FILES}
    assert {line.split()[0] for line in lines} == expected
    assert len(lines) == len(expected) == 8 * 23


# A small set in the published layout, so that these tests need neither the folder nor a network.


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server's folder with a ten-row `yacht`, whose checksums are registered, and an empty cache."""
    place = tmp_path / "server" / "yacht" / "data"
    place.mkdir(parents=True)
    np.savetxt(place / "data.txt", np.arange(40.0).reshape(10, 4))
    np.savetxt(place / "index_features.txt", [0, 1])
    np.savetxt(place / "index_target.txt", [3])
    for k in range(20):
        np.savetxt(place / f"index_test_{k}.txt", [k % 10])
    checksums = tmp_path / "uci_sha256.txt"
    checksums.write_text(
        "".join(f"yacht/data/{file.name} {sha256(file.read_bytes()).hexdigest()}\n" for file in place.iterdir())
    )
    monkeypatch.setattr(uci, "files", lambda package: tmp_path)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.delenv("PROBMIX_DATA", raising=False)
    return tmp_path / "server"


@pytest.fixture
def server(small: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths that were asked of an HTTP server of the small set."""
    asked: list[str] = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(small)))
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(uci, "BASE_URL", f"http://127.0.0.1:{http.server_port}/")
    yield asked
    http.shutdown()
    thread.join()
    http.server_close()


def test_files_are_downloaded_once(small: Path, server: list[str]) -> None:
    table, splits = load_uci("yacht")
    np.testing.assert_array_equal(table.x[:2], [[0, 1], [4, 5]])
    np.testing.assert_array_equal(table.y[:2], [3, 7])
    assert splits[13].test.tolist() == [3]
    assert len(splits[13].train) == 7 and len(splits[13].validation) == 2
    assert len(server) == 23
    again, _ = load_uci("yacht")
    np.testing.assert_array_equal(again.x, table.x)
    assert len(server) == 23


def test_a_damaged_file_in_the_cache_is_downloaded_again(small: Path, server: list[str]) -> None:
    load_uci("yacht")
    cached = small.parent / "cache" / "pyro_probmix" / "uci" / "yacht" / "data" / "data.txt"
    cached.write_bytes(cached.read_bytes()[:50])
    assert load_uci("yacht")[0].x.shape == (10, 2)
    assert server[23:] == ["/yacht/data/data.txt"]


def test_a_download_with_a_wrong_checksum_leaves_nothing(small: Path, server: list[str]) -> None:
    with (small / "yacht" / "data" / "index_target.txt").open("a") as file:
        file.write("2\n")
    with pytest.raises(ValueError, match=r"index_target\.txt did not send the published file: .*checksum.* Try "):
        load_uci("yacht")
    cache = small.parent / "cache" / "pyro_probmix" / "uci" / "yacht" / "data"
    assert sorted(file.name for file in cache.iterdir()) == ["data.txt", "index_features.txt"]


def test_a_missing_page_is_named(small: Path, server: list[str]) -> None:
    (small / "yacht" / "data" / "index_test_3.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot download http.*index_test_3\.txt \(status 404\).* Try "):
        load_uci("yacht")


def test_without_a_network_the_error_says_so(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket() as silent:  # holds a port and does not listen
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setattr(uci, "BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(ValueError, match=r"cannot download .* \(ConnectionError\).* Try again with a network"):
            load_uci("yacht")


def test_an_unwritable_cache_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small.parent / "cache").write_text("a file where the folder would be")
    with pytest.raises(ValueError, match=r"cannot write to the cache folder .*pyro_probmix.*: Not a directory\. Try "):
        load_uci("yacht")


@pytest.mark.parametrize("layout", ["uci/yacht", "yacht"])
def test_a_folder_of_the_files_is_read(layout: str, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(small / "yacht" / "data", small.parent / "own" / layout)
    assert load_uci("yacht", small.parent / "own")[0].x.shape == (10, 2)
    monkeypatch.setenv("PROBMIX_DATA", str(small.parent / "own"))
    assert load_uci("yacht")[0].x.shape == (10, 2)


def test_a_truncated_file_in_the_folder_is_named(small: Path) -> None:
    own = shutil.copytree(small / "yacht" / "data", small.parent / "own" / "yacht")
    (own / "data.txt").write_bytes((own / "data.txt").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"own/yacht/data\.txt is not the published file: .* Try copying it again"):
        load_uci("yacht", own.parent)


def test_a_missing_file_in_the_folder_is_named(small: Path) -> None:
    own = shutil.copytree(small / "yacht" / "data", small.parent / "own" / "yacht")
    (own / "index_test_19.txt").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*index_test_19\.txt: No such file or directory\. Try "):
        load_uci("yacht", own.parent)


def test_a_folder_without_the_set_is_named(small: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no yacht: neither .* nor .* is a folder\. Try "):
        load_uci("yacht", small.parent / "nowhere")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown UCI data set 'boston'\. Try one of bostonHousing, concrete,"):
        load_uci("boston")
