"""Saved estimators: the same predictions, bit for bit, from a file that holds no code and that damage cannot pass."""

import os
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as bytes_of

from pyro_probmix import METHODS, Method, ProbMixClassifier, ProbMixRegressor, find_method, load
from pyro_probmix.estimators.ensemble.network import Recipe
from pyro_probmix.estimators.saving import files
from pyro_probmix.estimators.saving.fields import check_size
from pyro_probmix.inference.sealed import read_sealed, write_sealed
from pyro_probmix.models import BEYOND, Gaussian
from tests.inference.faults import bounded, changed, deep, hostile, killed_at_each_change, two_at_once

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
    """A model whose predictions draw the embedding."""
    model = ProbMixRegressor(**TINY).fit(X, Y)
    noise = model.state_.many_draws(4)
    assert noise is not None
    model.state_.noise = noise[:4]
    return model


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


def with_record(data, change, folder):
    """The file with a change to its record and tensors, sealed anew, as a stranger or another version would."""
    path = folder / "sealed anew"
    path.write_bytes(data)
    record, tensors = read_sealed(path, files.ENTRY)
    change(record, tensors)
    write_sealed(path, files.ENTRY, record, tensors, advice="")
    return path.read_bytes()


def test_a_newer_version(data, tmp_path):
    newer = with_record(data, lambda record, _: record.update(format=files.FORMAT + 1, other="x"), tmp_path)
    with pytest.raises(
        ValueError, match=r"is of format 2, expected at most 1: a newer version wrote it. Try upgrading"
    ):
        loads(newer, tmp_path)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 5000, -1])
def test_truncated(data, tmp_path, length):
    with pytest.raises(ValueError, match=r"is damaged, or no saved model.*Try saving the model again"):
        loads(data[:length], tmp_path)


def test_tampered(data, tmp_path):
    assert data.count(b'"calls\\": 1') == 1
    with pytest.raises(ValueError, match="is damaged"):
        loads(data.replace(b'"calls\\": 1', b'"calls\\": 2'), tmp_path)
    flipped = bytearray(data)
    flipped[-3] ^= 1
    with pytest.raises(ValueError, match="is damaged"):
        loads(bytes(flipped), tmp_path)
    with pytest.raises(ValueError, match="is damaged"):
        loads(data + b"\0", tmp_path)


WEIGHT = "density.decoder.layers.0.weight"


def recipe(**changes):
    return lambda record, _: record["recipe"].update(changes)


def tensor(name, value):
    return lambda record, tensors: tensors.update({name: value(tensors[name])})


def set_at(*keys, value):
    def change(record, _):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record, _: record.pop("recipe"), r"its record is \['recipe'\]"),
        (recipe(widths=[9, 4]), "its weight decoder.*expected shape"),
        (recipe(method="M-Mix"), "its method is 'M-Mix'"),
        (set_at("parameters", "unheard_of", value=1), "unexpected keyword argument 'unheard_of'"),
        (set_at("estimator", value="os.system"), "it is a 'os.system', expected one of ProbMixRegressor"),
        (set_at("estimator", value="ProbMixClassifier"), "its list of attributes"),
        (recipe(likelihood="os.system"), "its likelihood is 'os.system'"),
        (recipe(likelihood="poisson"), "its list of weights"),
        (recipe(likelihood="categorical"), "its list of weights"),
        (recipe(likelihood="gaussian-mixture"), "its weight likelihood"),
        (recipe(members=10**9), "asks for some .* weights, expected those"),
        (recipe(widths=[10**9, 4]), "asks for some .* weights"),
        (recipe(widths=[8] + [1] * 100_000), "asks for some .* weights"),
        (recipe(periodic=10**12), "asks for some .* weights"),
        (recipe(num_outputs=10**9), "asks for some .* weights"),
        (recipe(row_shape=[10**9]), "asks for some .* weights"),
        (recipe(row_shape=[2, 10**9]), "one size, as a table has"),
        (recipe(row_shape=[]), "its row_shape"),
        (recipe(members=2.0), "its members is 2.0, expected an integer"),
        (recipe(members=True), "its members is True"),
        (recipe(members=-1), "its members is -1"),
        (recipe(activation="os.system"), "its activation is 'os.system'"),
        (recipe(activation=["relu"]), "its activation is"),
        (recipe(widths=deep(400)), "its widths is"),
        (set_at("recipe", "method", "method", "num_fused", value=-2), "its method's num_fused"),
        (set_at("recipe", "method", "method", "graph", value="none such"), "its method's graph"),
        (set_at("recipe", "method", "method", "draws", value=[1, -1]), "its method's draws"),
        (set_at("factor", value=float("nan")), "its factor is nan, expected a number above 0"),
        (set_at("factor", value=-1.0), "its factor is -1.0"),
        (set_at("factor", value="2"), "its factor is '2'"),
        (set_at("single", value=1), "its single is 1, expected true or false"),
        (set_at("calls", value=-1), "its calls is -1"),
        (set_at("recipe", "marks", value=[10**400]), "its marks"),
        (set_at("recipe", "grid", value=[10**400]), "its grid"),
        (set_at("seed", value=10**300), "its seed is 10+... expected an integer|its seed is 1000"),
        (set_at("diverged", value=["a"] * 10_000), "its diverged"),
        (set_at("attributes", "n_features_in_", value=3), "its n_features_in_ is 3"),
        (set_at("attributes", "n_outputs_", value=-1), "its n_outputs_ is -1"),
        (set_at("attributes", "feature_names_in_", value={"array": ["a", "b"], "type": "<U9999999"}), "a type that fits"),
        (set_at("attributes", "feature_names_in_", value={"array": ["a", "b"], "type": "V999999999"}), "a type of NumPy's"),
        (set_at("attributes", "feature_names_in_", value={"array": ["a"], "type": "O"}), "its feature_names_in_"),
        (set_at("attributes", "state_", value=3), "its list of attributes"),
        (set_at("parameters", "ensemble", value="many"), "got ensemble='many'"),
        (set_at("parameters", "alpha", value=float("nan")), "got alpha=nan"),
        (set_at("parameters", "method", value={"method": {}}), "its method"),
        (set_at("parameters", "widths", value=deep(400)), "its widths"),
        (set_at("parameters", "random_state", value=-1), "got random_state=-1"),
        (tensor("noise", lambda t: t[:, :1]), "its noise"),
        (tensor("noise", lambda t: t * torch.nan), "its noise is 'not finite'"),
        (tensor("x_scaler.scale", lambda t: -t), "its x_scaler"),
        (tensor("x_scaler.mean", lambda t: t[:1]), "its x_scaler"),
        (tensor("y_scaler.unit", lambda t: t * torch.inf), "its y_scaler"),
        (tensor("y_scaler.unit", lambda t: t.float()), "its y_scaler"),
        (tensor("history.train_loss", lambda t: t[:, :1]), "its history.train_loss"),
        (tensor("scores.scores", lambda t: t + 1), "its scores.scores"),
        (tensor("scores.scores", lambda t: t[:, 0]), "its scores.scores"),
        (tensor("scores.weights", lambda t: -t), "its scores.weights"),
        (tensor("scores.share", lambda t: t + 1), "its scores.share"),
        (tensor("scores.members", lambda t: t + 5), "its scores.members"),
        (tensor("scores.members", lambda t: t.float()), "its scores.members"),
        (set_at("held_out_rows", value="../x"), "its held_out_rows"),
        (set_at("held_out_rows", value=None), "its list of tensors"),
        (tensor(WEIGHT, lambda t: t.to(torch.complex64)), "its weight decoder"),
        (tensor(WEIGHT, lambda t: t * torch.nan), "its weight decoder.*not finite"),
        (lambda record, tensors: tensors.update(more=torch.zeros(1)), "its list of tensors"),
        (lambda record, tensors: tensors.pop("history.best_nll"), "its history"),
    ],
)  # fmt: skip
def test_a_strangers_file_is_refused_before_anything_is_built(data, tmp_path, change, said):
    hostile_file = with_record(data, change, tmp_path)
    with bounded(), pytest.raises(ValueError, match=rf"cannot be put together: .*({said}).*Try saving the model again"):
        loads(hostile_file, tmp_path)


def test_labels_take_no_more_room_than_the_longest(tmp_path):
    """Whatever width the file asks for: each predicted label takes as much."""
    ProbMixClassifier(**TINY).fit(X, np.where(Y > 0.5, "a", "bcd")).save(tmp_path / "model")
    wide = set_at("attributes", "classes_", value={"array": ["a", "bcd"], "type": "<U900000"})
    hostile_file = with_record((tmp_path / "model").read_bytes(), wide, tmp_path)
    with bounded():
        found = loads(hostile_file, tmp_path)
        assert found.predict(np.repeat(X, 50, 0)).dtype == "<U3" and list(found.classes_) == ["a", "bcd"]


def damaged(data, rng, folder, k):
    """Any bytes changed; or the record or the tensors, sealed anew."""
    if k % 3 == 0:
        return changed(data, rng)

    def change(record, tensors):
        if k % 3 == 1:
            hostile(record, rng)
            return
        name = sorted(tensors)[rng.integers(len(tensors))]
        old = tensors.pop(name)
        odd = [
            torch.zeros(3),
            torch.zeros(0),
            old[None],
            old.to(torch.complex64),
            old * torch.nan,
            ~old if old.dtype == torch.bool else -old,
            old.double(),
            old[:1],
            None,
        ]
        new = odd[rng.integers(len(odd))]
        if new is not None:
            tensors[name if rng.random() < 0.8 else f"{name}_"] = new

    return with_record(data, change, folder)


def refused_or_whole(data, folder, times, seed):
    """Loads files that were changed; each is refused in a sentence, or makes a model that predicts and is saved again."""
    rng, refused = np.random.default_rng(seed), 0
    (folder / "first").write_bytes(data)
    predicted = load(folder / "first").predict(X)
    for k in range(times):
        wrong = damaged(data, rng, folder, k)
        with bounded():
            try:
                again = loads(wrong, folder)
            except ValueError as error:
                assert "\n" not in str(error) and "Try " in str(error) and len(str(error)) < 1000
                refused += 1
                continue
            found = again.predict(X)
        assert np.isfinite(found).all()
        if k % 3 == 0:
            np.testing.assert_array_equal(found, predicted)
        again.save(folder / "again")
        np.testing.assert_array_equal(load(folder / "again").predict(X), found)
    return refused


def test_a_changed_file_gives_a_model_or_one_sentence(data, tmp_path):
    assert refused_or_whole(data, tmp_path, 90, seed=0) > 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_random_changes(data, tmp_path):
    assert refused_or_whole(data, tmp_path, 1000, seed=1) > 700


@pytest.mark.parametrize("method", [*METHODS, *BEYOND])
@pytest.mark.parametrize("widths", [(1,), (2, 3), (8, 1, 5)])
@pytest.mark.parametrize(("periodic", "num_outputs"), [(0, 1), (3, 2)])
def test_no_recipe_asks_for_more_than_the_bound_leaves(method, widths, periodic, num_outputs):
    found = find_method(method)
    recipe = Recipe(found, found.likelihood or "gaussian", (2,), num_outputs, 3, widths, "silu", periodic, None)
    weights = {f"density.{name}": value for name, value in recipe.build([0, 1, 2]).state_dict().items()}
    check_size({name: getattr(recipe, name) for name in Recipe.__dataclass_fields__}, weights)


SAVER = """
from pathlib import Path
import numpy as np
from pyro_probmix import load
from tests.estimators.test_saving import TINY, X, Y, ProbMixRegressor
models = [ProbMixRegressor(**{**TINY, "random_state": k}).fit(X, Y) for k in (0, 1)]
def write(folder, value):
    for k in range(4):
        models[(int(value) + k) % 2].save(Path(folder) / "model")
"""


def test_killed_before_any_change_to_files_a_save_leaves_one_model_whole_and_the_next_no_partial_file(tmp_path):
    fitted = [ProbMixRegressor(**{**TINY, "random_state": k}).fit(X, Y) for k in (0, 1)]
    wanted = [model.predict(X) for model in fitted]
    fitted[0].save(tmp_path / "model")

    def check(killed):
        found = load(tmp_path / "model").predict(X)
        assert any(np.array_equal(found, one) for one in wanted)
        fitted[1].save(tmp_path / "model")
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    assert killed_at_each_change(SAVER, tmp_path, check, most=44) >= 40


def test_two_saves_at_once(tmp_path):
    two_at_once(SAVER.replace("int(value)", "len(value)"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert np.isfinite(load(tmp_path / "model").predict(X)).all()


def test_a_link_in_the_place_of_a_partial_file_is_not_followed(model, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (tmp_path / f".partial-{os.getpid()}-model").symlink_to(precious)
    model.save(tmp_path / "model")
    assert precious.read_bytes() == b"mine"


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
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\); what was there before stays"):
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
