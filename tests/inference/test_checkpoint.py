"""An interrupted fit goes on from its checkpoint and ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from pyro_probmix import BetaNLL, Checkpoint, LogExpectedLikelihood, fit
from pyro_probmix.inference.checkpoint import ForeignCheckpoint
from tests.inference.test_training import data, process


class Interrupted(Exception):
    pass


def trained(path=None, stop=None, seconds=0.0, name="LocM-ProbMix", **options):
    """Trains on the small data; stops in an epoch, before its checkpoint is written, as a kill would."""
    x, y = data()
    torch.manual_seed(1)
    model = process(name, x=x)

    def on_epoch(epoch, _best):
        if epoch == stop:
            raise Interrupted

    checkpoint = None if path is None else Checkpoint(path, seconds)
    given: dict[str, Any] = {"epochs": 7, "learning_rate": 0.01, "validation": (x, y), "seed": 3} | options
    result = fit(model, x, y, on_epoch=on_epoch, checkpoint=checkpoint, **given)
    return model.state_dict(), result


def assert_equal(first, second):
    for name, value in first[0].items():
        assert torch.equal(value, second[0][name]), name
    for field in ("train_loss", "validation_nll", "best_epoch", "best_nll"):
        assert torch.equal(getattr(first[1], field), getattr(second[1], field)), field


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"learning_rate": torch.tensor([0.01, 0.02, 0.1]), "patience": 2, "clip_norm": 1.0},
        {"schedule": lambda epoch: 0.5**epoch},
        {"schedule": lambda epoch: 0.5**epoch, "optimizer": torch.optim.SGD},
        {"criterion": LogExpectedLikelihood(2, 3)},
        {"compile": True},
    ],
    ids=["plain", "replicas", "schedule", "sgd", "draws", "compiled"],
)
def test_an_interrupted_fit_ends_with_the_same_weights(tmp_path, options):
    path = tmp_path / "fit.safetensors"
    for stop in (1, 4):
        with pytest.raises(Interrupted):
            trained(path, stop, **options)
    assert_equal(trained(path, **options), trained(**options))


def test_a_killed_process_goes_on(tmp_path):
    script = """
        import os, signal, sys
        from tests.inference import test_checkpoint
        from pyro_probmix.inference.checkpoint import Checkpoint
        write = Checkpoint.write
        def counted(self, tensors, epoch, identity):
            write(self, tensors, epoch, identity)
            if epoch == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        Checkpoint.write = counted
        test_checkpoint.trained(sys.argv[1])
    """
    path = tmp_path / "fit.safetensors"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == -9, done.stderr.decode()
    assert_equal(trained(path), trained())


def test_a_finished_fit_is_not_trained_again(tmp_path):
    first = trained(tmp_path / "fit.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyro_probmix.inference.data.minibatches.shuffled_rows", None)
        assert_equal(trained(tmp_path / "fit.safetensors"), first)


def test_it_is_written_when_due(tmp_path):
    with pytest.raises(Interrupted):
        trained(tmp_path / "fit.safetensors", stop=6, seconds=1000.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [{"seed": 4}, {"epochs": 8}, {"name": "M-ProbMix"}, {"learning_rate": 0.02}])
def test_another_fits_checkpoint_is_refused(tmp_path, option):
    trained(tmp_path / "fit.safetensors")
    with pytest.raises(ForeignCheckpoint, match=r"is of another fit, with .*, expected .*Try another path"):
        trained(tmp_path / "fit.safetensors", **option)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (BetaNLL(beta=0.5), BetaNLL(beta=0.3)),
        (LogExpectedLikelihood(2), LogExpectedLikelihood(2, scope="graph")),
        (LogExpectedLikelihood(2), LogExpectedLikelihood(3)),
    ],
)
def test_a_checkpoint_of_another_criterion_is_refused(tmp_path, first, second):
    trained(tmp_path / "fit.safetensors", criterion=first)
    trained(tmp_path / "fit.safetensors", criterion=first)
    with pytest.raises(ForeignCheckpoint, match=r"is of another fit, with criterion"):
        trained(tmp_path / "fit.safetensors", criterion=second)


def test_a_damaged_file_is_refused_and_left(tmp_path):
    path = tmp_path / "fit.safetensors"
    trained(path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    for damaged in (whole[:-10], whole[:20], b"", b"\0" * 100, bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ForeignCheckpoint, match=r"is damaged.*Try another path, or delete it"):
            trained(path)
        assert path.read_bytes() == damaged
    path.write_bytes(whole.replace(b'\\"format\\": 1', b'\\"format\\": 9'))
    with pytest.raises(ForeignCheckpoint, match="has format 9, expected 1"):
        trained(path)


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    """A limit on the size of files, which the next write meets half-way."""
    path = tmp_path / "fit.safetensors"
    with pytest.raises(Interrupted):
        trained(path, stop=2)
    kept = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, hard))
    try:
        with pytest.raises(OSError, match="could not be written"):
            trained(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]
