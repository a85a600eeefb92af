"""LSTM and transformer, batched over replicas, beside PyTorch's own with the same weights: values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyro_probmix import METHODS, ProbMix, build_density, fit, predict
from pyro_probmix.models import LSTM, Gaussian, Transformer, initialise

R, B, T, D, H = 3, 5, 6, 4, 8


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def put(target, values):
    with torch.no_grad():
        target.copy_(values)


def reference_lstm(encoder, r):
    """PyTorch's LSTM with the weights of replica r, and the linear compression."""
    lstm = nn.LSTM(D, H, 2, batch_first=True)

    def torch_order(columns):  # ours are i, f, o, g; PyTorch's i, f, g, o
        i, f, o, g = columns.split(H, -1)
        return torch.cat([i, f, g, o], -1)

    for k, layer in enumerate(encoder.layers):
        put(getattr(lstm, f"weight_ih_l{k}"), torch_order(layer.input.weight[r]).T)
        put(getattr(lstm, f"bias_ih_l{k}"), torch_order(layer.input.bias[r, 0]))
        put(getattr(lstm, f"weight_hh_l{k}"), torch_order(layer.recurrent[r]).T)
        put(getattr(lstm, f"bias_hh_l{k}"), torch.zeros(4 * H))
    return lambda x: lstm(x)[0].flatten(1) @ encoder.compression.weight[r] + encoder.compression.bias[r, 0]


def put_attention(attention, ours, r):
    put(attention.in_proj_weight, torch.cat([ours.query.weight[r], ours.key_value.weight[r]], -1).T)
    put(attention.in_proj_bias, torch.cat([ours.query.bias[r, 0], ours.key_value.bias[r, 0]]))
    put(attention.out_proj.weight, ours.output.weight[r].T)
    put(attention.out_proj.bias, ours.output.bias[r, 0])


def put_norm(norm, ours, r):
    put(norm.weight, ours.weight[r, 0, 0])
    put(norm.bias, ours.bias[r, 0, 0])


def put_feed_forward(layer, ours, r):
    for linear, own in ((layer.linear1, ours.first), (layer.linear2, ours.second)):
        put(linear.weight, own.weight[r].T)
        put(linear.bias, own.bias[r, 0])


def reference_transformer(encoder, r):
    first = [nn.TransformerEncoderLayer(H, 2, H, dropout=0.0, batch_first=True) for _ in encoder.encoder]
    second = [nn.TransformerDecoderLayer(H, 2, H, dropout=0.0, batch_first=True) for _ in encoder.decoder]
    for layer, ours in zip(first, encoder.encoder, strict=True):
        put_attention(layer.self_attn, ours.attention, r)
        put_norm(layer.norm1, ours.norm, r)
        put_norm(layer.norm2, ours.last_norm, r)
        put_feed_forward(layer, ours.feed_forward, r)
    for second_layer, ours in zip(second, encoder.decoder, strict=True):
        put_attention(second_layer.self_attn, ours.attention, r)
        put_attention(second_layer.multihead_attn, ours.cross, r)
        put_norm(second_layer.norm1, ours.norm, r)
        put_norm(second_layer.norm2, ours.cross_norm, r)
        put_norm(second_layer.norm3, ours.last_norm, r)
        put_feed_forward(second_layer, ours.feed_forward, r)

    def run(x):
        steps = x @ encoder.input.weight[r] + encoder.input.bias[r, 0] + encoder.position
        memory = steps
        for layer in first:
            memory = layer(memory)
        out = steps
        for second_layer in second:
            out = second_layer(out, memory)
        return out.flatten(1) @ encoder.compression.weight[r] + encoder.compression.bias[r, 0]

    return run


CASES = {
    "lstm": (lambda replicas: LSTM(D, T, hidden=H, out_features=7, replicas=replicas), reference_lstm),
    "transformer": (
        lambda replicas: Transformer(D, T, width=H, out_features=7, replicas=replicas),
        reference_transformer,
    ),
}


@pytest.mark.parametrize(("make", "reference"), CASES.values(), ids=CASES)
def test_each_replica_is_pytorchs_own_network(make, reference):
    encoder = make(R)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    x = torch.randn(R, B, T, D, requires_grad=True)
    direction = torch.randn(R, B, 7)
    out = encoder(x)
    (gradient,) = torch.autograd.grad((out * direction).sum(), x)
    for r in range(R):
        own = x[r].detach().requires_grad_()
        expected = reference(encoder, r)(own)
        torch.testing.assert_close(out[r], expected)
        torch.testing.assert_close(gradient[r], torch.autograd.grad((expected * direction[r]).sum(), own)[0])


@pytest.mark.parametrize(("make", "_reference"), CASES.values(), ids=CASES)
def test_shapes_draws_and_a_single_copy(make, _reference):
    encoder, single = make(R), make(None)
    initialise(encoder, range(R))
    initialise(single, [1])
    shared, draws = torch.randn(B, T, D), torch.randn(2, R, B, T, D)
    torch.testing.assert_close(encoder(shared)[1], single(shared))
    torch.testing.assert_close(encoder(draws)[1], encoder(draws[1]))
    torch.testing.assert_close(single(draws)[1, 2], single(draws[1, 2]))


@pytest.mark.parametrize("network", ["lstm", "transformer"])
@pytest.mark.parametrize("name", ["ERM", "Mix", "LocM-Mix", "ProbMix", "M-ProbMix"])
def test_methods_train_on_series(network, name):
    x = torch.randn(2, 16, T, D)
    y = x[..., -1, :1] + x.mean((-1, -2))[..., None]
    density = build_density(
        METHODS[name], num_features=(T, D), likelihood=Gaussian, widths=(8,), network=network, replicas=2
    )
    initialise(density, [0, 1])
    process = ProbMix(density, at=METHODS[name].site, batch_size=8)
    loss = fit(process, x, y, epochs=30, learning_rate=0.003, compile=False).train_loss
    assert bool((loss[-5:].mean(0) < loss[:5].mean(0)).all())
    assert predict(density, x).mean.shape == (2, 16, 1)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_the_compiled_step_is_the_eager_one(network):
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        x = torch.randn(16, T, D)
        density = build_density(
            METHODS["M-ProbMix"], num_features=(T, D), likelihood=Gaussian, widths=(8,), network=network
        )
        process = ProbMix(density, at="z", batch_size=8)
        losses.append(fit(process, x, x[:, -1, :1], epochs=3, learning_rate=0.01, compile=compile).train_loss)
    torch.testing.assert_close(losses[1], losses[0])


def test_a_separate_variance_network_of_a_series_is_refused():
    with pytest.raises(ValueError, match="a separate variance network for network='lstm'"):
        build_density(METHODS["M-ProbMix*"], num_features=(T, D), likelihood=Gaussian, network="lstm")
