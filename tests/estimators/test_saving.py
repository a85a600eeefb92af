"""Saved estimators: the same predictions, bit for bit, from a file that holds no code and that damage cannot pass."""

import json
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from pyro_probmix import METHODS, Method, ProbMixClassifier, ProbMixRegressor, find_method, load
from pyro_probmix.estimators import saving
from pyro_probmix.models import Gaussian

TINY: dict[str, Any] = {
    "ensemble": 2,
    "widths": (8, 4),
    "periodic": 2,
    "epochs": 2,
    "num_samples": 4,
    "random_state": 0,
}
X = np.random.default_rng(0).normal(size=(40, 2))
Y = X[:, 0] ** 2 + 0.1 * X[:, 1]


@pytest.fixture(scope="module")
def model():
    return ProbMixRegressor(**TINY).fit(X, Y)


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    model.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("method", ["ERM", "LocMix", "M-ProbMix*", Method("y", "nearest", pool="linear")])
@pytest.mark.parametrize("likelihood", ["gaussian", "student-t", "gamma", "poisson"])
def test_regressors_come_back_bit_for_bit(method, likelihood, tmp_path):
    y = np.round(10 * Y**2) if likelihood == "poisson" else Y**2 + 0.1 if likelihood == "gamma" else Y
    fitted = ProbMixRegressor(method, likelihood, **{**TINY, "epochs": 1}).fit(X, y)
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(again.predict_interval(X), fitted.predict_interval(X))
    np.testing.assert_array_equal(again.sample(X, 3, random_state=0), fitted.sample(X, 3, random_state=0))
    assert again.nll(X, y) == fitted.nll(X, y)
    assert again.get_params() == fitted.get_params()
    assert again.n_iter_ == fitted.n_iter_ and again.n_features_in_ == 2


@pytest.mark.parametrize(
    "labels", [["a", "b\u2713"], [3, -1], [True, False], [1.0, -2.0], np.array(["x", "y"], dtype=object)]
)
def test_classifiers_come_back_with_their_classes(labels, tmp_path):
    y = np.asarray(labels)[(X[:, 0] > 0).astype(int)]
    fitted = ProbMixClassifier(**TINY).fit(X, y)
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert isinstance(again, ProbMixClassifier) and again.classes_.dtype == fitted.classes_.dtype
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_feature_names_and_several_targets(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X, columns=["größe", "名 \x00"])
    fitted = ProbMixRegressor(**TINY).fit(frame, np.stack([Y, -Y], 1))
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert list(again.feature_names_in_) == ["größe", "名 \x00"]
    np.testing.assert_array_equal(again.predict(frame), fitted.predict(frame))


def test_a_loaded_model_goes_on(model, tmp_path):
    model.save(tmp_path / "model")
    again = load(tmp_path / "model").set_params(warm_start=True)
    before = again.predict(X)
    again.fit(X, Y)
    assert not np.array_equal(again.predict(X), before)
    assert np.isfinite(load(tmp_path / "model").partial_fit(X, Y).predict(X)).all()


def test_saved_again_it_is_the_same_file(model, tmp_path):
    model.save(tmp_path / "a")
    load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def head(in_features, num_outputs, replicas):
    return Gaussian(in_features, num_outputs, replicas)


def test_code_is_given_again_never_taken_from_the_file(tmp_path):
    encoder = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.GELU())
    fitted = ProbMixRegressor(likelihood=head, encoder=encoder, **TINY).fit(X, Y)
    fitted.save(tmp_path / "model")
    fresh = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.GELU())
    again = load(tmp_path / "model", encoder=fresh, likelihood=head)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    with pytest.raises(
        ValueError, match=r"made with its own encoder, whose code is not in the file.*Try load\(path, encoder="
    ):
        load(tmp_path / "model", likelihood=head)
    with pytest.raises(ValueError, match=r"made with its own likelihood.*Try load\(path, likelihood="):
        load(tmp_path / "model", encoder=fresh)
    with pytest.raises(ValueError, match=r"cannot be put together.*Try the encoder and likelihood it was made with"):
        load(tmp_path / "model", encoder=torch.nn.Linear(2, 7), likelihood=head)
    assert b"pickle" not in (tmp_path / "model").read_bytes()


def test_an_encoder_for_a_model_without_one(model, tmp_path):
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"made with no encoder.*Try load\(path\)"):
        load(tmp_path / "model", encoder=torch.nn.Linear(2, 3))


def loads(data, folder):
    path = folder / "changed"
    path.write_bytes(data)
    return load(path)


def with_record(data, change, *, sealed):
    """The file with its record changed; sealed anew if asked, as by another version's writer."""
    (length,) = struct.unpack("<Q", data[:8])
    record = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][saving.ENTRY])
    seal = record.pop("digest")
    change(record)
    tensors = dict(sorted(tensors_of(data).items()))
    record["digest"] = saving._digest(record, tensors) if sealed else seal
    return bytes_of(tensors, {saving.ENTRY: json.dumps(record)})


def test_a_newer_version(data, tmp_path):
    newer = with_record(data, lambda record: record.update(format=saving.FORMAT + 1, other="x"), sealed=True)
    with pytest.raises(
        ValueError, match=r"is of format 2, expected at most 1: a newer version wrote it. Try upgrading"
    ):
        loads(newer, tmp_path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000, -1])
def test_truncated(data, tmp_path, length):
    with pytest.raises(ValueError, match=r"is damaged, or no saved model.*Try saving the model again"):
        loads(data[:length], tmp_path)


def test_tampered(data, tmp_path):
    changed = with_record(data, lambda record: record.update(factor=100.0), sealed=False)
    with pytest.raises(ValueError, match="is damaged"):
        loads(changed, tmp_path)
    flipped = bytearray(data)
    flipped[-3] ^= 1
    with pytest.raises(ValueError, match="is damaged"):
        loads(bytes(flipped), tmp_path)
    with pytest.raises(ValueError, match="is damaged"):
        loads(data + b"\0", tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("recipe"),
        lambda record: record["recipe"].update(widths=[9, 4]),
        lambda record: record["recipe"].update(method="M-Mix"),
        lambda record: record["parameters"].update(unheard_of=1),
        lambda record: record.update(estimator="os.system"),
        lambda record: record["recipe"].update(likelihood="os.system"),
    ],
)
def test_sealed_but_wrong(data, tmp_path, change):
    with pytest.raises(ValueError, match=r"cannot be put together|is damaged"):
        loads(with_record(data, change, sealed=True), tmp_path)


def test_other_files(tmp_path):
    for content in (
        b"",
        b"{}",
        b"PK\x03\x04",
        b"\x80\x04K\x01.",
        bytes_of({"a": torch.ones(2)}),
        bytes_of({}, {"k": "v"}),
    ):
        with pytest.raises(ValueError, match="is damaged, or no saved model"):
            loads(content, tmp_path)
    with pytest.raises(ValueError, match=r"there is no file .*Try another path"):
        load(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"there is no file .*Try another path"):
        load(tmp_path)


@settings(max_examples=150, deadline=None)
@given(damage=st.data())
def test_no_damage_passes(data, tmp_path_factory, damage):
    """Any change of any bytes is refused with a sentence, or was none."""
    folder = tmp_path_factory.getbasetemp()
    changed = bytearray(data)
    for _ in range(damage.draw(st.integers(1, 3))):
        place = damage.draw(st.one_of(st.integers(0, 400), st.integers(0, len(data) - 1)))
        changed[place : place + damage.draw(st.integers(0, 8))] = damage.draw(st.binary(max_size=8))
    if bytes(changed) == data:
        return
    with pytest.raises(ValueError, match="Try "):
        loads(bytes(changed), folder)


def test_what_was_there_stays_if_writing_fails(model, data, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"before")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(
        OSError, match=r"could not be written to .* \(No space left on device\); what was there before stays"
    ):
        model.save(path)
    assert path.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["model"]
    monkeypatch.undo()
    with pytest.raises(OSError, match="could not be written"):
        model.save(tmp_path / "no folder" / "model")


def test_what_json_does_not_hold(tmp_path):
    fitted = ProbMixRegressor(**TINY, activation=torch.nn.Softsign).fit(X, Y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"cannot be saved with activation of type type.*Try joblib"):
        fitted.save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["M-ProbMix-log", "4-ProbMix", "ERM-t"])
def test_methods_beyond_the_paper_come_back_whole(name, tmp_path):
    fitted = ProbMixRegressor(name, **{**TINY, "epochs": 1}).fit(X, Y)
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.state_.recipe == fitted.state_.recipe and again.state_.recipe.method == find_method(name)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_what_is_left_out(tmp_path):
    fitted = ProbMixRegressor(
        METHODS["Mix"], callbacks=[lambda epoch, best: False], **{**TINY, "random_state": np.random.RandomState(0)}
    ).fit(X, Y)
    fitted.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.callbacks == () and again.random_state is None and again.method == METHODS["Mix"]
