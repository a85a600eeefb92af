"""NumPyro: the same model with its primitives, a step jitted inside ``lax.scan``."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.nn import relu, softplus
from jax.scipy.special import logsumexp
from numpy.typing import NDArray
from numpyro import handlers
from numpyro.optim import Adam

from benchmarks.cases import ALPHA, FLOOR, INITIAL_BIAS, LEARNING_RATE, Case, Draws, Problem

__all__ = ["NumPyroScan"]


class NumPyroScan:
    """What a NumPyro user writes: plates for the replicas and the pairs' two ends, latents drawn from their prior.

    The network is evaluated on [R, B, ...] and fused on [R, S, K, 2, B/2, ...], the fastest layout on a CPU of those tried
    (rows rolled by half a batch, and pairs throughout); JAX's default random numbers were the fastest, too.
    """

    def __init__(self, case: Case, problem: Problem, precision: str = "float32", device: str = "cpu") -> None:
        assert device == "cpu"
        self.case, self.precision = case, precision
        with jax.enable_x64(precision == "float64"):
            self.x, self.y, self.rows = (
                jnp.asarray(problem.x, precision),
                jnp.asarray(problem.y, precision),
                problem.rows,
            )
            weights = {name: jnp.asarray(value, precision) for name, value in problem.weights.items()}
            self.optimizer = Adam(LEARNING_RATE)
            self.state = self.optimizer.init(weights), jax.random.PRNGKey(0)
        self._run = jax.jit(self._scan, static_argnums=1)

    def model(self, x: Any, y: Any) -> None:
        method, (replicas, batch_size, _) = self.case.method, x.shape

        def affine(layer: str, x: Any) -> Any:
            return x @ numpyro.param(f"{layer}.weight") + numpyro.param(f"{layer}.bias")

        s, k = self.case.embeddings, self.case.draws

        def pairs(value: Any) -> Any:  # [R, B, ...] to [R, 1, 1, 2, B/2, ...]; [R, S * K * B, ...] to [R, S, K, 2, ...]
            draws = (1, 1) if value.shape[1] == batch_size else (s, k)
            return value.reshape(replicas, *draws, 2, batch_size // 2, value.shape[-1])

        def rows(value: Any) -> Any:
            return value.reshape(replicas, -1, value.shape[-1])

        ends, particles = numpyro.plate("end", 2, dim=-2), numpyro.plate("particle", k, dim=-3)
        with (
            numpyro.plate("replica", replicas, dim=-5),
            particles,
            ends,
            numpyro.plate("pair", batch_size // 2, dim=-1),
        ):
            own = None
            if self.case.fuses:
                weight = numpyro.sample("lambda", dist.Beta(ALPHA, ALPHA))  # [R, 1, K, 2, B/2]
                own = jnp.stack([weight[..., 0, :], 1 - weight[..., 1, :]], -2)[..., None]

            def mix(value: Any) -> Any:
                return own * value + (1 - own) * value[..., ::-1, :, :]

            if method == "Mix":
                x = rows(mix(pairs(x)))
            z = relu(affine("encoder", x))
            with numpyro.plate("embedding", s, dim=-4):
                if self.case.embeds:
                    scale = pairs(softplus(affine("scale", z) + INITIAL_BIAS) + FLOOR)
                    loc = pairs(z)
                    if method == "M-ProbMix":
                        precision = scale**-2
                        loc, scale = _pooled(mix, loc, precision)
                    z = rows(numpyro.sample("z", dist.Normal(loc, scale).to_event(1)))
                loc, raw = jnp.split(pairs(affine("head", relu(affine("decoder", z)))), 2, -1)
                scale = softplus(raw) + FLOOR
                if method == "ProbMix":
                    loc, scale = _pooled(mix, loc, scale**-2)
                labels = pairs(y) if own is None else mix(pairs(y))
                numpyro.sample("y", dist.Normal(loc, scale).to_event(1), obs=labels)

    def _losses(self, weights: Any, x: Any, y: Any, model: Any) -> Any:
        # With the latents drawn from their prior, the evidence lower bound is the log-likelihood of the response.
        site = handlers.trace(handlers.substitute(model, data=weights)).get_trace(x, y)["y"]
        log_prob = site["fn"].log_prob(site["value"])  # [R, S, K, 2, B/2]
        if self.case.embeddings > 1:
            log_prob = logsumexp(log_prob, 1) - math.log(self.case.embeddings)
        return -log_prob.reshape(len(log_prob), -1).mean(-1)

    def _take(self, rows: Any) -> tuple[Any, Any]:
        return tuple(jnp.take_along_axis(data, rows[..., None], 1) for data in (self.x, self.y))  # type: ignore[return-value]

    def _step(self, state: Any, rows: Any) -> tuple[Any, Any]:
        optimizer, key = state
        key, own_key = jax.random.split(key)
        x, y = self._take(rows)

        def total(weights: Any) -> Any:
            each = self._losses(weights, x, y, handlers.seed(self.model, own_key))
            return each.sum(), each

        gradients, each = jax.grad(total, has_aux=True)(self.optimizer.get_params(optimizer))
        return (self.optimizer.update(gradients, optimizer), key), each

    def _scan(self, state: Any, steps: int) -> tuple[Any, Any]:
        rows = jnp.asarray(np.resize(self.rows, (steps, *self.rows.shape[1:])))  # round again where there are too few
        return jax.lax.scan(self._step, state, rows)

    def train(self, steps: int) -> None:
        self.state, history = self._run(self.state, steps)
        jax.block_until_ready((self.state, history))

    def loss_and_gradients(self, draws: Draws) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        def total(weights: Any, weight: Any, noise: Any) -> Any:
            def given(site: Any) -> Any:
                if site["name"] == "z":
                    return site["fn"].mean + jnp.sqrt(site["fn"].variance) * noise
                return weight if site["name"] == "lambda" else None

            model = handlers.substitute(self.model, substitute_fn=given)
            each = self._losses(weights, *self._take(jnp.asarray(self.rows[0])), model)
            return each.sum(), each

        with jax.enable_x64(self.precision == "float64"):
            s, k, ends = self.case.embeddings, self.case.draws, (2, self.case.batch_size // 2)
            paired = [
                draws.weight.reshape(self.case.replicas, 1, k, *ends).astype(self.precision),
                draws.noise.reshape(self.case.replicas, s, k, *ends, -1).astype(self.precision),
            ]
            weights = self.optimizer.get_params(self.state[0])
            gradients, each = jax.jit(jax.grad(total, has_aux=True))(weights, *paired)
        return np.asarray(each), {name: np.asarray(g) for name, g in gradients.items()}


def _pooled(mix: Any, loc: Any, precision: Any) -> tuple[Any, Any]:
    """The log-linear pool of two Gaussians."""
    pooled = mix(precision)
    return mix(precision * loc) / pooled, pooled**-0.5
