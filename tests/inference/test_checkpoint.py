"""An interrupted fit goes on from its checkpoint and ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import itertools
import resource
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from pyro_probmix import BetaNLL, Checkpoint, LogExpectedLikelihood, fit
from pyro_probmix.inference import DamagedCheckpoint, ForeignCheckpoint
from pyro_probmix.inference.checkpoint import ENTRY
from pyro_probmix.inference.sealed import read_sealed, write_sealed
from tests.inference.faults import bounded, changed, hostile, killed_at_each_change, two_at_once
from tests.inference.test_training import data, process


class Interrupted(Exception):
    pass


def trained(path=None, stop=None, seconds=0.0, name="LocM-ProbMix", dtype=torch.float32, alphas=None, **options):
    """Trains on the small data; stops in an epoch, before its checkpoint is written, as a kill would."""
    x, y = data()
    torch.manual_seed(1)
    model = process(name, x=x, dtype=dtype)

    def annealed(epoch):
        model.alpha.fill_(alphas[epoch])
        return 1.0

    if alphas is not None:
        options["schedule"] = annealed

    def on_epoch(epoch, _best):
        if epoch == stop:
            raise Interrupted

    checkpoint = None if path is None else Checkpoint(path, seconds)
    given: dict[str, Any] = {"epochs": 7, "learning_rate": 0.01, "validation": (x, y), "seed": 3} | options
    result = fit(model, x, y, on_epoch=on_epoch, checkpoint=checkpoint, **given)
    return model.state_dict(), result


def sealed_anew(path, change):
    """The file with a change to its record and tensors, sealed as a stranger could."""
    record, tensors = read_sealed(path, ENTRY)
    change(record, tensors)
    write_sealed(path, ENTRY, record, tensors, advice="")


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
        {"plain": False},
        {"dtype": torch.float64},
        {"alphas": (0.1, 0.1, 3.0, 3.0, 0.2, 0.1, 0.1)},
    ],
    ids=["tensors", "replicas", "schedule", "sgd", "draws", "compiled", "handlers", "double", "alpha"],
)
def test_an_interrupted_fit_ends_with_the_same_weights(tmp_path, options):
    path = tmp_path / "fit.safetensors"
    for stop in (1, 4):
        with pytest.raises(Interrupted):
            trained(path, stop, **options)
    assert_equal(trained(path, **options), trained(**options))


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
        with pytest.raises(DamagedCheckpoint, match=r"is damaged.*Try another path, or delete it"):
            trained(path)
        assert path.read_bytes() == damaged


def test_another_version_and_another_kind_of_file_are_no_damage(tmp_path):
    path = tmp_path / "fit.safetensors"
    trained(path)
    sealed_anew(path, lambda record, _: record.update(format=9))
    with pytest.raises(ForeignCheckpoint, match="has format 9, expected 2") as caught:
        trained(path)
    assert not isinstance(caught.value, DamagedCheckpoint)
    with pytest.raises(ForeignCheckpoint, match=r"is no file, expected the file of a fit"):
        trained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no folder, expected one that is there. Try making it"):
        trained(tmp_path / "none" / "fit.safetensors")


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


@pytest.mark.parametrize("epoch", [1, 2, 4, 5, 7])
def test_a_changed_epoch_is_found(tmp_path, epoch):
    """In the place of 6, from which the same fit would go on."""
    path = tmp_path / "fit.safetensors"
    with pytest.raises(Interrupted):
        trained(path, 6)
    data, wanted = path.read_bytes(), b'\\"epoch\\": '
    assert data.count(wanted) == 1
    place = data.index(wanted) + len(wanted)
    assert data[place : place + 1] == b"6"
    path.write_bytes(data[:place] + b"%d" % epoch + data[place + 1 :])
    with pytest.raises(DamagedCheckpoint, match=r"is damaged.*Try another path, or delete it"):
        trained(path)


def damage(path, data, rng, sealed):
    """Changes bytes; or the record and tensors, sealed anew."""
    path.write_bytes(data)
    if not sealed:
        path.write_bytes(changed(data, rng))
        return
    record, tensors = read_sealed(path, ENTRY)
    if rng.random() < 0.5:
        hostile(record, rng)
    else:
        name = sorted(tensors)[rng.integers(len(tensors))]
        odd = [
            torch.zeros(3),
            torch.zeros(0),
            tensors[name][None],
            tensors[name].to(torch.complex64),
            torch.zeros(2, dtype=torch.int8),
        ]
        k = rng.integers(len(odd) + 2)
        if k == len(odd):
            del tensors[name]
        elif k > len(odd):
            tensors["optimizer.0.new" if rng.random() < 0.5 else "new"] = tensors.pop(name)
        else:
            tensors[name] = odd[k]
    write_sealed(path, ENTRY, record, tensors, advice="")


def refused_or_the_same(folder, times, seed):
    path, rng = folder / "fit.safetensors", np.random.default_rng(seed)
    whole = trained(path)
    data, refused = path.read_bytes(), 0
    for k in range(times):
        damage(path, data, rng, sealed=k % 2 == 1)
        torch.manual_seed(0)
        with bounded():
            try:
                result = trained(path)
            except ForeignCheckpoint as error:
                assert "\n" not in str(error) and "Try " in str(error)
                refused += 1
                continue
        if k % 2 == 0:  # a sealed one may hold other numbers
            assert_equal(result, whole)
    return refused


def test_damage_gives_the_same_bits_or_one_sentence(tmp_path):
    assert refused_or_the_same(tmp_path, 60, seed=0) > 40


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_random_changes(tmp_path):
    assert refused_or_the_same(tmp_path, 1000, seed=1) > 800


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record, tensors: record.update(epoch=-3), "its epoch -3 is none of 1 to 7"),
        (lambda record, tensors: record.update(epoch=10**9), "its epoch 1000000000 is none"),
        (lambda record, tensors: record.update(epoch=True), "its record is that of no fit"),
        (lambda record, tensors: record.update(identity=[]), "its record is that of no fit"),
        (lambda record, tensors: tensors.pop("replicas.best_nll"), "it has other tensors"),
        (lambda record, tensors: tensors.update(train=torch.zeros(2, 1)), "its tensor 'train' is"),
        (
            lambda record, tensors: tensors.update({"optimizer.0.exp_avg": torch.zeros(2)}),
            "its tensor 'optimizer.0.exp_avg'",
        ),
        (
            lambda record, tensors: tensors.update({"optimizer.0.odd": torch.zeros(2)}),
            "its optimizer has 'odd' of parameter",
        ),
        (
            lambda record, tensors: tensors.update({"optimizer.x.step": torch.zeros(2)}),
            "its optimizer has a parameter 'x'",
        ),
        (
            lambda record, tensors: tensors.update(random=torch.full((5056,), 255, dtype=torch.uint8)),
            "its random state",
        ),
        (lambda record, tensors: tensors.update(drawn=torch.ones(4, 5)), "its weights drawn ahead are"),
        (lambda record, tensors: tensors.update(drawn=torch.ones(4, 5, 6)), "its weights drawn ahead are"),
        (lambda record, tensors: tensors["drawn"][0, 1].fill_(1.5), "not between 0 and 1"),
        (lambda record, tensors: tensors["drawn"][1, 0].fill_(torch.nan), "not between 0 and 1"),
    ],
)
def test_a_strangers_checkpoint_is_checked_before_anything_is_taken(tmp_path, change, said):
    path = tmp_path / "fit.safetensors"
    trained(path)
    sealed_anew(path, change)
    x, y = data()
    torch.manual_seed(1)
    model = process("LocM-ProbMix", x=x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(DamagedCheckpoint, match=said):
        fit(model, x, y, epochs=7, learning_rate=0.01, validation=(x, y), seed=3, checkpoint=path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_path_is_taken_as_a_checkpoint(tmp_path):
    x, y = data()
    for path in (tmp_path / "fit.safetensors", str(tmp_path / "other.safetensors")):
        fit(process("ProbMix"), x, y, epochs=1, checkpoint=path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fit.safetensors", "other.safetensors"]
    with pytest.raises(ValueError, match=r"checkpoint of type int, expected a Checkpoint or a path. Try Checkpoint"):
        fit(process("ProbMix"), x, y, epochs=1, checkpoint=3)  # type: ignore[arg-type]


FIT = """
from tests.inference.test_checkpoint import trained
def write(folder, value):
    trained(f"{folder}/fit.safetensors")
"""
# The states of a fit are made once; each process that is killed writes them again.
WRITER = """
from pathlib import Path
from tests.inference.test_checkpoint import Checkpoint, trained
write_one, states = Checkpoint.write, []
Checkpoint.write = lambda self, tensors, *rest: states.append(({k: v.clone() for k, v in tensors.items()}, *rest))
trained("written.safetensors")
def write(folder, value):
    for state in states[:5]:
        write_one(Checkpoint(Path(folder) / "fit.safetensors"), *state)
"""


def test_killed_before_any_change_to_files_it_goes_on_and_leaves_no_partial_file(tmp_path):
    whole = trained()
    path = tmp_path / "fit.safetensors"

    kills = itertools.count()

    def check(killed):
        found = path.exists()
        if next(kills) % 4 == 0:
            assert_equal(trained(path), whole)
        else:  # another fit: nothing is mixed up, and nothing is left of the killed one
            with pytest.raises(ForeignCheckpoint, match="of another fit") if found else nullcontext():
                trained(path, epochs=1)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]
        path.unlink()

    assert killed_at_each_change(WRITER, tmp_path, check, most=44) >= 40


def test_two_fits_with_one_checkpoint_at_once(tmp_path):
    two_at_once(FIT, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["fit.safetensors"]
    assert_equal(trained(tmp_path / "fit.safetensors"), trained())
