"""The validation NLL of each epoch: that of the posterior predictive, the same draws every time, in blocks."""

import pytest
import torch

from pyro_probmix import fit
from pyro_probmix.inference import negative_log_likelihood
from pyro_probmix.inference.predictive import validation
from pyro_probmix.inference.predictive.validation import Validation
from tests.inference.test_training import R, data, process


def held_out(name="M-ProbMix", seed=0, samples=3, **options):
    x, y = data(seed=1)
    model = process(name, **options)
    model.eval()
    return model, Validation(model, x, y, (True, True), samples, "y", seed)


@pytest.mark.parametrize("name", ["ProbMix", "M-Mix"])
def test_without_a_drawn_embedding_it_is_the_predictive_density(name):
    model, loss = held_out(name)
    expected = negative_log_likelihood(model.density, *data(seed=1))
    torch.testing.assert_close(loss.nll(loss), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["M-ProbMix", "ProbMix"])
def test_blocks_of_rows_add_up(name, monkeypatch):
    monkeypatch.setattr(validation, "_BLOCK", 3 * R * 7)  # seven rows, and fewer in the last block
    model, loss = held_out(name, samples=3)
    assert len(loss.blocks) > 1 and len(loss.distinct_blocks()) <= 2
    many = torch.stack([held_out(name, seed=s, samples=3)[1].nll(loss) for s in range(200)])
    expected = torch.stack([negative_log_likelihood(model.density, *data(seed=1), num_samples=3) for _ in range(200)])
    spread = (many.var(0) + expected.var(0)).div(200).sqrt()
    assert ((many.mean(0) - expected.mean(0)).abs() < 4 * spread + 1e-5).all()


def test_each_call_has_the_same_draws_and_leaves_the_random_state():
    _, loss = held_out()
    state = torch.get_rng_state()
    assert torch.equal(loss.nll(loss), loss.nll(loss))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(loss.nll(loss), held_out(seed=1)[1].nll(loss))


def test_one_model_without_replicas():
    x, y = data(1)
    model = process("M-ProbMix", replicas=None, batch_size=None)
    loss = Validation(model, x[0], y[0], (False, False), 4, "y", 0)
    assert loss.nll(loss).shape == ()


def test_training_is_the_same_whatever_is_held_out():
    x, y = data()
    losses = []
    for rows in (None, (x, y), (x[:, :5], y[:, :5])):
        torch.manual_seed(0)
        losses.append(fit(process("M-ProbMix"), x, y, epochs=2, validation=rows).train_loss)
    assert torch.equal(losses[0], losses[1]) and torch.equal(losses[0], losses[2])
