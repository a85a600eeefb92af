"""Streams of rows: each row once a pass, the documented distribution of pairs, memory within its bound, faults of files."""

import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pyro_probmix import (
    METHODS,
    ArrayStream,
    Checkpoint,
    CompleteGraph,
    ExpectedLogLikelihood,
    NearestNeighborGraph,
    ParquetStream,
    ProbMix,
    fit,
)
from pyro_probmix.inference import RowStream
from pyro_probmix.inference.data import minibatches
from pyro_probmix.inference.data.shuffle import BlockShuffle
from pyro_probmix.models import Categorical, Gaussian, build_density

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not installed

from benchmarks import streaming as bench  # noqa: E402

KINDS = ["parquet", "files", "array"]


def write(path: Path, group_rows: int = 25, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=group_rows)
    return path


def numbered(kind: str, folder: Path, n: int, group_rows: int = 25, **options: Any) -> RowStream:
    """Rows whose features and target name the row."""
    row = np.arange(n)
    if kind == "array":
        x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float64, (n, 2))
        x[:] = np.stack([row, 2 * row], 1)
        return ArrayStream(np.load(folder / "x.npy", mmap_mode="r"), 3.0 * row, **options)
    if kind == "files":
        cut = n // 3
        paths = [
            write(folder / f"{k}.parquet", group_rows, a=row[part], b=2.0 * row[part], y=3.0 * row[part])
            for k, part in enumerate((slice(cut), slice(cut, cut), slice(cut, n)))
        ]
        return ParquetStream(paths, "y", **options)
    return ParquetStream(write(folder / "t.parquet", group_rows, a=row, b=2.0 * row, y=3.0 * row), "y", **options)


def rows_of(stream: RowStream, seed: int = 0, epoch: int = 0) -> list[np.ndarray]:
    return [x[:, 0].long().numpy() for x, _ in stream.blocks(seed, epoch)]


@pytest.mark.parametrize("memory", [32, 512])  # one column at a time, and all
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "n, block, chunk", [(300, 100, 10), (301, 100, None), (97, 40, 7), (50, 500, 50), (9, 4, 1), (2, 4, 1)]
)
def test_a_pass_gives_every_row_once_with_its_target(kind, n, block, chunk, memory, tmp_path):
    stream = numbered(kind, tmp_path, n, block_rows=block, chunk_rows=chunk, memory_mib=memory)
    seen = []
    for x, y in stream.blocks(seed=1, epoch=2):
        assert x.shape == (len(x), 2) and y.shape == (len(x), 1) and len(x) <= stream.shuffle.block_rows <= block
        torch.testing.assert_close(x[:, 1:], 2 * x[:, :1])
        torch.testing.assert_close(y, 3 * x[:, :1])
        seen += x[:, 0].tolist()
    assert sorted(seen) == list(range(n))


@pytest.mark.parametrize("kind", ["parquet", "array"])
def test_orders_follow_the_seed_and_the_epoch(kind, tmp_path):
    stream = numbered(kind, tmp_path, 300, block_rows=100, chunk_rows=10)
    first = np.concatenate(rows_of(stream, 0, 0))
    assert (first == np.concatenate(rows_of(stream, 0, 0))).all()
    for other in ((0, 1), (1, 0)):
        again = np.concatenate(rows_of(stream, *other))
        assert (first == again).mean() < 0.1
        assert set(first[:100]) != set(again[:100])
    # Shuffled within a block: no trace of the chunks' order.
    assert (np.diff(first) == 1).mean() < 0.05


def blocks_of(shuffle: BlockShuffle, seed: int, epoch: int) -> np.ndarray:
    """The number of the block that each row is in."""
    block_of = np.full(shuffle.num_rows, -1)
    for b, segments in enumerate(shuffle.segments(seed, epoch)):
        for start, stop in segments:
            assert start < stop and (block_of[start:stop] == -1).all()
            block_of[start:stop] = b
    return block_of


@pytest.mark.parametrize("n, m, c", [(48, 16, 4), (48, 16, 1), (48, 24, 6)])
def test_rows_meet_as_documented(n, m, c):
    """1 within a chunk, (m - c) / (N - c) across; passes are independent, so a frequency's standard error is known."""
    passes, shuffle = 3000, BlockShuffle(np.array([0, 12, n]), m, c)
    assert (shuffle.block_rows, shuffle.chunk_rows, shuffle.num_chunks) == (m, c, n // c)
    block_of = np.stack([blocks_of(shuffle, 3, k) for k in range(passes)])
    together = np.zeros((n, n))
    for own in block_of:
        together += own[:, None] == own
    together /= passes
    same = np.arange(n)[:, None] // c == np.arange(n) // c
    assert (together[same] == 1).all()
    expected = (m - c) / (n - c)
    error = (expected * (1 - expected) / passes) ** 0.5
    # Up to 1128 pairs of chunks: one of them is off by 4.5 standard errors once in 130 seeds.
    assert np.abs(together[~same] - expected).max() < 4.5 * error
    pairs = ~np.eye(n, dtype=bool)
    assert together[pairs].mean() == pytest.approx((m - 1) / (n - 1))


def test_any_boundaries_make_whole_passes():
    rng = np.random.default_rng(0)
    for seed in range(100):
        boundaries = np.unique(np.concatenate([[0], rng.integers(1, 500, rng.integers(1, 20))]))
        shuffle = BlockShuffle(boundaries, int(rng.integers(4, 200)), [None, 1, 7, 60][seed % 4])
        block_of = blocks_of(shuffle, seed, 0)
        assert (np.bincount(block_of) == shuffle.block_sizes).all()
        assert max(shuffle.block_sizes) - min(shuffle.block_sizes) <= 1
        for segments in shuffle.segments(seed, 0):
            assert (np.diff(segments.ravel()) >= 0).all()  # forwards
            for low, high in pairwise(boundaries.tolist()):  # none reaches across a boundary
                inside = (segments[:, 0] < high) & (segments[:, 1] > low)
                assert ((segments[inside] >= low) & (segments[inside] <= high)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_those_of_the_shuffle(kind, tmp_path):
    stream = numbered(kind, tmp_path, 60, group_rows=12, block_rows=20, chunk_rows=4)
    for b, rows in enumerate(rows_of(stream, 3, 1)):
        assert (blocks_of(stream.shuffle, 3, 1)[rows] == b).all()


def test_edges_of_a_fit_follow_the_documented_distribution(tmp_path):
    """Each pass of a fit pairs the rows of a block: w_ij = P_ij / (N (m - 1)), none of a row with itself."""
    n, m, c, epochs = 24, 12, 3, 250
    stream = numbered("array", tmp_path, n, block_rows=m, chunk_rows=c)
    edges = np.zeros((n, n))

    class Recorded(torch.nn.Module):
        """A density that notes which rows the two halves of a batch are."""

        def __init__(self):
            super().__init__()
            self.inner = build_density(METHODS["ProbMix"], num_features=2, likelihood=Gaussian, widths=(1,))

        def forward(self, x, y=None):
            first, second = x[:, 0].long().numpy().reshape(2, -1)
            if self.training:  # not the check of two rows
                np.add.at(edges, (first, second), 1)
                np.add.at(edges, (second, first), 1)  # each pair counts from both ends
            return self.inner(x, y)

    fit(ProbMix(Recorded(), at="y", batch_size=12), stream, epochs=epochs, learning_rate=1e-9, compile=False)
    assert edges.sum() == epochs * n
    same = np.arange(n)[:, None] // c == np.arange(n) // c
    off = ~np.eye(n, dtype=bool)
    assert (edges.diagonal() == 0).all()
    share = edges[same].sum() / edges.sum()
    expected = (c - 1) / (m - 1)
    # n / 2 pairs a pass, of which two of one chunk are nearly independent.
    assert abs(share - expected) < 4 * (expected * (1 - expected) / (epochs * n / 2)) ** 0.5
    for inside, probability in ((same & off, 1.0), (~same, (m - c) / (n - c))):
        rate = edges[inside] / epochs
        mean = probability / (m - 1)
        assert np.abs(rate - mean).max() < 5 * (mean / epochs) ** 0.5
        assert rate.mean() == pytest.approx(mean, abs=5 * (mean / epochs / inside.sum() * 2) ** 0.5)


@pytest.mark.parametrize("kind", ["parquet", "array"])
def test_standard_units_in_one_pass(kind, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(1e6, 0.1, size=(2000, 3))
    x[:, 1] = 0.1
    y = rng.gamma(2.0, size=2000)
    options: dict[str, Any] = {"block_rows": 300, "chunk_rows": 70}
    if kind == "array":
        raw: RowStream = ArrayStream(x, y, **options)
    else:
        path = write(tmp_path / "t.parquet", 170, a=x[:, 0], b=x[:, 1], c=x[:, 2], y=y)
        raw = ParquetStream(path, "y", **options)
    stream = raw.standardized()
    expected_x, expected_y = stream.scaled(x, y)
    torch.testing.assert_close(expected_x[:, 0], torch.as_tensor((x[:, 0] - x[:, 0].mean()) / x[:, 0].std()).float())
    assert (expected_x[:, 1] == 0).all()
    torch.testing.assert_close((stream.loc.item(), stream.scale.item()), (y.mean(), y.std()), rtol=1e-6, atol=0)
    blocks_x, blocks_y = (torch.cat(part) for part in zip(*stream.blocks(), strict=True))
    torch.testing.assert_close(blocks_x.sort(0).values, expected_x.sort(0).values)
    torch.testing.assert_close(blocks_y.sort(0).values, expected_y.sort(0).values)
    assert raw.scale.item() == 1.0  # the first stream is as it was
    with pytest.raises(ValueError, match=r"x of shape \[2000, 2\].*Try"):
        stream.scaled(x[:, :2], y)


@pytest.mark.parametrize("name, replicas", [("M-ProbMix", None), ("ERM", 3)])
def test_a_fit_on_blocks_learns_what_a_fit_in_memory_learns(name, replicas, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=(600, 1))
    y = np.sin(2 * x[:, 0]) + 0.1 * rng.normal(size=600)
    path = write(tmp_path / "t.parquet", 100, x=x[:, 0], y=y)
    stream = ParquetStream(path, "y", block_rows=150, chunk_rows=10).standardized()
    held_out = stream.scaled(x[:200], y[:200])

    def trained(*data, epochs=15):
        torch.manual_seed(0)
        density = build_density(METHODS[name], num_features=1, likelihood=Gaussian, widths=(32, 16), replicas=replicas)
        process = ProbMix(density, at=METHODS[name].site, batch_size=30)
        result = fit(process, *data, epochs=epochs, validation=held_out, learning_rate=0.02, seed=1)
        return result, [p.detach().clone() for p in process.parameters()]

    weights, same_weights = (trained(stream, epochs=2)[1] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(weights, same_weights, strict=True))
    streamed, _ = trained(stream)
    in_memory, _ = trained(*stream.scaled(x, y))
    start = in_memory.validation_nll[0]
    assert streamed.train_loss.shape == in_memory.train_loss.shape
    # Both fall well below where they start, and to about the same.
    assert (streamed.best_nll < start - 0.3).all()
    assert (streamed.best_nll - in_memory.best_nll).abs().max() < 0.3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 7, 40, 200])
def test_rows_in_the_order_of_the_source(kind, rows, tmp_path):
    stream = numbered(kind, tmp_path, 100, group_rows=9, block_rows=30)
    parts = [(x.clone(), y.clone()) for x, y in stream.in_order(rows)]
    assert [len(x) for x, _ in parts] == [min(rows, 100 - low) for low in range(0, 100, rows)]
    assert torch.cat([x[:, 0] for x, _ in parts]).tolist() == list(range(100))
    torch.testing.assert_close(torch.cat([y[:, 0] for _, y in parts]), 3.0 * torch.arange(100))


def small(replicas=None, name="M-ProbMix", batch_size=12, dtype=torch.float32):
    torch.manual_seed(0)
    density = build_density(METHODS[name], num_features=2, likelihood=Gaussian, widths=(6, 4), replicas=replicas)
    return ProbMix(density, at=METHODS[name].site, batch_size=batch_size).to(dtype)


def test_validation_rows_may_be_a_stream(tmp_path):
    stream = numbered("parquet", tmp_path, 60, block_rows=30).standardized()
    row = np.arange(13.0)
    path = write(tmp_path / "v.parquet", 5, a=row, b=2 * row, y=2 * row)
    raw = ParquetStream(path, "y", block_rows=8)
    tensors = stream.scaled(np.stack([row, 2 * row], 1), 2 * row)
    for replicas in (None, 4):
        curves = [
            fit(small(replicas), stream, epochs=3, validation=v).validation_nll
            for v in (tensors, raw.standardized(like=stream))
        ]
        torch.testing.assert_close(*curves)
    with pytest.raises(ValueError, match=r"v.parquet in other units .*Try validation.standardized\(like=stream\)"):
        fit(small(), stream, epochs=1, validation=raw)
    with pytest.raises(
        ValueError, match=r"v.parquet has the columns a, y, expected those of .*t.parquet, a, b, y.*Try"
    ):
        ParquetStream(path, "y", features=["a"]).standardized(like=stream)
    with pytest.raises(ValueError, match=r"validation rows of type \w*Path, expected two tensors or a stream"):
        fit(small(), stream, epochs=1, validation=path)  # type: ignore[arg-type] # on purpose


@pytest.mark.parametrize("replicas", [None, 3])
def test_an_interrupted_fit_on_a_stream_ends_with_the_same_weights(replicas, tmp_path):
    stream = numbered("parquet", tmp_path, 60, block_rows=30, chunk_rows=5).standardized()

    class Interrupted(Exception):
        pass

    def trained(path=None, stop=None, rows=stream):
        def on_epoch(epoch, _best):
            if epoch == stop:
                raise Interrupted

        checkpoint = None if path is None else Checkpoint(path, 0.0)
        model = small(replicas)
        fit(model, rows, epochs=5, validation=rows, learning_rate=0.01, on_epoch=on_epoch, checkpoint=checkpoint)
        return [p.detach().clone() for p in model.parameters()]

    path = tmp_path / "fit.safetensors"
    for stop in (1, 3):
        with pytest.raises(Interrupted):
            trained(path, stop)
    assert all(torch.equal(a, b) for a, b in zip(trained(path), trained(), strict=True))
    other = numbered("parquet", tmp_path, 60, block_rows=30, chunk_rows=5).standardized()  # written again
    with pytest.raises(ValueError, match="is of another fit, with data"):
        trained(path, rows=other)


def test_a_fit_reads_each_block_to_the_same_place(monkeypatch, tmp_path):
    """What a compiled or captured step relies on, which knows its data by their place."""
    stream = numbered("array", tmp_path, 100, block_rows=30)
    places = set()

    class Noted(minibatches.Minibatches):
        def epoch(self, epoch):
            for rows in super().epoch(epoch):
                places.add((self.x.data_ptr(), self.y.data_ptr(), self.x.shape))
                yield rows

    monkeypatch.setattr("pyro_probmix.inference.training.Minibatches", Noted)
    fit(small(), stream, epochs=2)
    assert len(places) == 1


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [None, 3])
def test_a_compiled_fit_on_a_stream_is_the_eager_one(replicas, tmp_path):
    stream = numbered("parquet", tmp_path, 97, block_rows=30).standardized()
    eager, compiled = (
        fit(small(replicas), stream, epochs=3, validation=stream, learning_rate=0.01, compile=c) for c in (False, True)
    )
    torch.testing.assert_close(compiled.train_loss, eager.train_loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled.validation_nll, eager.validation_nll, rtol=1e-4, atol=1e-5)


def test_weights_in_float64(tmp_path):
    stream = numbered("parquet", tmp_path, 60, block_rows=30).standardized()
    result = fit(small(dtype=torch.float64), stream, epochs=2, validation=stream)
    assert result.train_loss.isfinite().all() and result.best_nll.isfinite().all()


def test_part_of_the_rows_is_scaled_to_all():
    """As the blocks of a stream are: a likelihood counts for all rows of the table, whatever part of it is there."""
    model, criterion = small(batch_size=8), ExpectedLogLikelihood()
    x, y, rows = torch.randn(20, 2), torch.randn(20, 1), torch.arange(8)
    sums = []
    for num_rows in (20, 600):
        torch.manual_seed(1)
        (term,) = criterion.terms(model, model.guide, x, y, rows, num_rows)
        sums.append(term.sum())
    torch.testing.assert_close(sums[1], 30 * sums[0])


def test_the_mean_of_many_losses(monkeypatch):
    monkeypatch.setattr(minibatches, "FOLDED", 7)
    values, mean = torch.rand(50, 3), minibatches.EpochMean()
    for value in values:
        mean.append(value)
    torch.testing.assert_close(mean.value(), values.mean(0))


def test_a_block_of_as_many_rows_as_replicas(tmp_path):
    stream = numbered("parquet", tmp_path, 12, block_rows=4, chunk_rows=2).standardized()
    density = build_density(METHODS["ProbMix"], num_features=2, likelihood=Gaussian, widths=(4,))
    assert fit(ProbMix(density, at="y", batch_size=2), stream, epochs=2).train_loss.isfinite().all()


def test_classes(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    path = write(tmp_path / "t.parquet", 50, x=y + 0.1 * rng.normal(size=300), y=y)
    stream = ParquetStream(path, "y", task="classification", block_rows=100).standardized()
    density = build_density(METHODS["ProbMix"], num_features=1, likelihood=Categorical, num_outputs=3, widths=(16, 8))
    model = ProbMix(density, at="y", labels="expected", batch_size=20)
    result = fit(model, stream, epochs=20, learning_rate=0.02, validation=stream)
    assert result.best_nll.item() < 0.5
    with pytest.raises(ValueError, match=r"outside of the support of Categorical \(training rows\)"):
        density = build_density(METHODS["ERM"], num_features=1, likelihood=Categorical, num_outputs=2)
        fit(ProbMix(density, at=None), stream, epochs=1)


def test_kinds_of_numbers_and_the_index_of_pandas(tmp_path):
    columns = {
        "whole": pa.array([1, 2, 3, 4], pa.int8()),
        "true": pa.array([True, False, True, True]),
        "price": pa.array([1, 2, 3, 4], pa.decimal128(5, 2)),
        "a": pa.array([1.5, 2.5, 3.5, 4.5], pa.float32()),
        "a.b": pa.array([9.0, 9.0, 9.0, 9.0]),
        "__index_level_0__": pa.array(["p", "q", "r", "s"]),
        "y": pa.array([1, 2, 3, 2**60]),
    }
    stream = ParquetStream(write(tmp_path / "t.parquet", **columns), "y")
    assert stream.columns == ("whole", "true", "price", "a", "a.b", "y")
    ((x, y),) = stream.blocks()
    torch.testing.assert_close(x[y[:, 0].argsort()][1], torch.tensor([2.0, 0.0, 2.0, 2.5, 9.0]))


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    row = np.arange(100.0)
    good = write(tmp_path / "good.parquet", a=row, y=row, label=[str(k) for k in range(100)])
    data = good.read_bytes()
    cut, empty, none = tmp_path / "cut.parquet", tmp_path / "empty.parquet", tmp_path / "none.parquet"
    cut.write_bytes(data[: len(data) // 2])
    empty.write_bytes(b"")
    write(none, a=row[:0], y=row[:0])
    whole = {"features": ["a"], "target": "y"}
    for path, options, sentence in (
        (cut, whole, "cut.parquet: cannot be read as Parquet.*Try"),
        (empty, whole, "empty.parquet: cannot be read as Parquet"),
        (none, whole, "0 rows are too few"),
        (tmp_path / "no.parquet", whole, "no file .*no.parquet"),
        (tmp_path, whole, r"is a folder.*glob\('\*.parquet'\)"),
        ([], whole, "no files"),
        (good, {"target": "y"}, r"column 'label' \(string\), expected numbers"),
        (good, {"features": ["a"], "target": "label"}, r"column 'label' \(string\), expected numbers"),
        (good, {"features": ["a"], "target": "yy"}, "no column 'yy', expected one. Try 'y'"),
        (good, {"features": ["a", "y"], "target": "y"}, "more than one use of column 'y'"),
        (good, {"features": [], "target": "y"}, "no feature columns"),
        (good, {**whole, "task": "classification"}, r"column 'y' \(double\), expected integer classes"),
        (good, {**whole, "task": "ranking"}, "got task='ranking', expected 'regression' or 'classification'"),
        (good, {**whole, "memory_mib": 4}, "memory_mib=4, expected a number of at least 32"),
        (good, {**whole, "block_rows": 1}, "block_rows=1, expected an integer of at least 4"),
        ([good, write(tmp_path / "other.parquet", a=row)], whole, "other.parquet: no column 'y'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ParquetStream(path, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("act", [lambda s: list(s.blocks()), lambda s: s.standardized()])
def test_a_value_that_is_no_finite_number_is_named_with_its_row(value, act, tmp_path):
    row = np.arange(100.0)
    bad = row.copy()
    bad[77] = value
    first = write(tmp_path / "first.parquet", a=row[:40], y=row[:40])
    second = write(tmp_path / "second.parquet", a=row, y=bad)
    with pytest.raises(ValueError, match=r"column 'y' is (nan|inf|1e\+300) at row 77 of .*second.parquet .*Try"):
        act(ParquetStream([first, second], "y", block_rows=20))
    x = np.stack([row, bad], 1)
    with pytest.raises(ValueError, match=r"column 'x1' is .* at row 77 of the arrays"):
        act(ArrayStream(x, row, block_rows=20))


def test_a_missing_value_is_named(tmp_path):
    path = write(tmp_path / "t.parquet", a=pa.array([1, 2, None, 4]), y=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match="column 'a' is nan at row 2 of"):
        list(ParquetStream(path, "y").blocks())


def test_a_file_that_changes_between_passes_is_refused(tmp_path):
    row = np.arange(100.0)
    path = write(tmp_path / "t.parquet", a=row, y=row)
    stream = ParquetStream(path, "y")
    list(stream.blocks(epoch=0))
    write(path, a=row[:50], y=row[:50])
    with pytest.raises(ValueError, match=r"t.parquet has changed since.*Try"):
        list(stream.blocks(epoch=1))
    path.unlink()
    with pytest.raises(ValueError, match=r"no file .*t.parquet"):
        list(stream.blocks(epoch=1))


def test_a_file_that_changes_within_a_pass_is_refused(tmp_path):
    row = np.arange(100.0)
    path = write(tmp_path / "t.parquet", a=row, y=row)
    blocks = ParquetStream(path, "y", block_rows=25).blocks()
    next(blocks)
    write(path, a=row + 1, y=row)
    with pytest.raises(ValueError, match=r"t.parquet has changed since"):
        next(blocks)


def test_another_file_of_the_same_size_and_time_is_refused(tmp_path):
    row = np.arange(100.0)
    path, other = write(tmp_path / "t.parquet", a=row, y=row), write(tmp_path / "other.parquet", a=row, y=row)
    stream, status = ParquetStream(path, "y"), path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    with pytest.raises(ValueError, match=r"t.parquet has changed since"):
        list(stream.blocks())


@pytest.mark.parametrize("change", ["cut", "written", "gone"])
def test_a_memory_map_whose_file_changes_is_refused(change, tmp_path):
    """Reading behind the end of a file that was cut would end the process."""
    path = tmp_path / "x.npy"
    np.save(path, np.arange(200.0).reshape(100, 2))
    rows = np.load(path, mmap_mode="r")
    stream = ArrayStream(rows[:, :1], rows[:, 1])
    list(stream.blocks())
    if change == "cut":
        os.truncate(path, path.stat().st_size - 8)
    elif change == "written":
        np.load(path, mmap_mode="r+")[5, 0] = 7.0
        os.utime(path)  # a map's time is written with its pages, which may be later
    else:
        path.unlink()
    with pytest.raises(
        ValueError, match="no file .*x.npy" if change == "gone" else "x.npy has changed since.*ArrayStream"
    ):
        list(stream.blocks())


def test_damage_inside_a_file_is_refused(tmp_path):
    row = np.random.default_rng(0).normal(size=5000)
    path = write(tmp_path / "t.parquet", 1000, a=row, y=row)
    data = bytearray(path.read_bytes())
    page = pq.read_metadata(path).row_group(3).column(0).data_page_offset
    data[page : page + 50] = b"\xff" * 50
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"t.parquet: row group 3 cannot be read as Parquet"):
        list(ParquetStream(path, "y").blocks())


def test_arrays_that_do_not_fit_are_refused():
    x, y = np.zeros((10, 2)), np.zeros(10)
    with pytest.raises(ValueError, match=r"the order of \d+ chunks takes \d+ MiB, expected at most \d.*Try a larger"):
        ArrayStream(np.lib.stride_tricks.as_strided(x, (10**7, 2), (0, 8)), np.zeros(10**7), chunk_rows=1)
    for args, sentence in (
        ((x[:, 0], y), r"x of shape \[10\]"),
        ((x, y[:5]), r"y of \[5\]"),
        ((x.astype(str), y), "x of type .*expected numbers"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ArrayStream(*args)
    with pytest.raises(ValueError, match="expected integers"):
        ArrayStream(x, y, task="classification")


def test_what_a_fit_cannot_do_with_a_stream_is_refused(tmp_path):
    stream = numbered("parquet", tmp_path, 100)
    density = build_density(METHODS["ProbMix"], num_features=2, likelihood=Gaussian, widths=(4,))
    for graph in (CompleteGraph(100), NearestNeighborGraph(torch.randn(100, 2))):
        with pytest.raises(
            ValueError, match=f"a stream and a {type(graph).__name__}, expected no graph.*Try graph=None"
        ):
            fit(ProbMix(density, at="y", graph=graph), stream, epochs=1)
    model = ProbMix(density, at="y")
    with pytest.raises(ValueError, match="responses beside a stream"):
        fit(model, stream, torch.zeros(100, 1), epochs=1)
    with pytest.raises(ValueError, match="features and no responses"):
        fit(model, torch.zeros(100, 2), epochs=1)
    with pytest.raises(
        ValueError, match=r"holds 0 rows of 3 columns for 100000000 replicas, expected 4 .*Try memory_mib="
    ):
        stream.shared_by(10**8, torch.float32)


@pytest.mark.timeout(400)  # other processes may be busy
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's account of the memory")
@pytest.mark.parametrize(
    "suffix, num_rows, group_rows, features, options",
    [
        (".parquet", 800_000, 50_000, 20, {"memory_mib": 32}),  # 128 MiB of numbers, 160 on the disk
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (".npy", 2_500_000, 100_000, 20, {"memory_mib": 64}),  # 400 MiB
                (".npy", 400_000, 100_000, 20, {"memory_mib": 192, "chunk_rows": 1}),
                (".npy", 50_000, 10_000, 500, {"memory_mib": 64}),
                (".parquet", 2_500_000, 50_000, 20, {"memory_mib": 64}),
                (".parquet", 2_500_000, 1_000_000, 20, {"memory_mib": 64}),  # a group alone is 160 MiB
                (".parquet", 2_500_000, 100_000, 20, {"memory_mib": 256}),
                (".parquet", 400_000, 50_000, 20, {"memory_mib": 192, "chunk_rows": 1}),
                (".parquet", 800_000, 1_000, 20, {"memory_mib": 64}),  # 800 groups
                (".parquet", 50_000, 10_000, 500, {"memory_mib": 64}),
                (".parquet", 800_000, 50_000, 20, {"memory_mib": 32, "replicas": 20}),
                (".parquet", 800_000, 50_000, 20, {"memory_mib": 32, "validate": True}),
            )
        ),
    ],
)
def test_memory_stays_within_its_bound(suffix, num_rows, group_rows, features, options, tmp_path):
    path = tmp_path / f"big{suffix}"
    bench.write(path, num_rows, group_rows, features)
    bound = options["memory_mib"] * (2 if options.get("validate") else 1)  # a validation stream has its own
    assert bench.in_a_process(path, options)["added"] < bound


@pytest.mark.parametrize(
    "form",
    [
        lambda v: v.tolist(),
        lambda v: pd.DataFrame(v),
        torch.as_tensor,
        lambda v: torch.as_tensor(v).requires_grad_(),
        lambda v: v.astype(">f8"),
        lambda v: v.astype(object),
    ],
    ids=["list", "frame", "tensor", "gradient", "big-endian", "objects"],
)
def test_lists_frames_and_tensors_are_taken_as_arrays(form):
    x, y = np.random.default_rng(0).normal(size=(50, 2)), np.arange(50.0)
    wanted = [*ArrayStream(x, y, block_rows=20).blocks()]
    found = [*ArrayStream(form(x), form(y), block_rows=20).blocks()]
    for (wanted_x, wanted_y), (found_x, found_y) in zip(wanted, found, strict=True):
        assert torch.equal(found_x, wanted_x) and torch.equal(found_y, wanted_y)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        ("abc", "got x of type str, expected a tensor or an array of numbers"),
        (np.float64(3.0), r"got x of shape \[\]"),
        ([[1], [2, 3]], "got x of type list, expected"),
        (np.ma.masked_greater(np.zeros((50, 2)) + np.eye(50)[:, :2], 0.5), "got x with masked values"),
        (np.zeros((50, 2), complex), "expected numbers"),
        (torch.eye(50).to_sparse(), "sparse"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(x, sentence):
    with pytest.raises(ValueError, match=rf"{sentence}.*Try"):
        ArrayStream(x, np.arange(50.0))


def test_a_tuple_of_paths_and_numpys_numbers(tmp_path):
    row = np.arange(100.0)
    paths = tuple(write(tmp_path / f"{k}.parquet", a=row, y=row) for k in range(2))
    stream = ParquetStream(paths, "y", block_rows=np.int64(20), memory_mib=np.float64(64))  # type: ignore[arg-type]
    assert stream.num_rows == 200
    for odd in ({"block_rows": "20"}, {"chunk_rows": True}, {"memory_mib": None}, {"target": 3}, {"features": 3}):
        with pytest.raises(ValueError, match=rf"ParquetStream got {next(iter(odd))}=.*Try"):
            ParquetStream(**({"path": paths, "target": "y"} | odd))
