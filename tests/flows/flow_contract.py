"""What every flow promises, checked in double precision before and after training steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flowvid.config.making import preset_config
from flowvid.training import train_state


def flat(latents):
    """Latents of all levels as one vector per image."""
    return jnp.concatenate([z.reshape(z.shape[0], -1) for z in latents], axis=-1)


def check_exact_density_and_round_trips(flow, initial, x, contexts, perturbed, steps, atol=1e-8):
    """Checks images against their round trip, and the density against the full Jacobian.

    Args:
        flow: the flow.
        initial: its parameters in double precision.
        x: images [B, H, W, C].
        contexts: of each level.
        perturbed: the fixture, so that no network is zero.
        steps: of training, after which everything is checked again.
        atol: absolute error of the round trip of x.
    """
    batch, dims = len(x), x[0].size
    # Both programs that take it trace it once.
    log_prob_of = jax.jit(lambda params, x: flow.log_prob(params, x, contexts).log_prob)

    @jax.jit
    def forward(params, x):
        """(latents, log_prob, Jacobian of all latents with respect to x)."""

        def flat_latents(x):
            latents = flow.encode(params, x, contexts)
            return flat(latents), latents

        # The log-prob is not differentiated: its derivative would be traced for nothing.
        jacobian, latents = jax.jacrev(flat_latents, has_aux=True)(x)
        return latents, log_prob_of(params, x), jacobian.reshape(batch, dims, batch, dims)

    inverse = jax.jit(lambda params, latents: flow.decode(params, latents, contexts))
    optimiser = train_state.optimizer(preset_config("paper_small", warmup_steps=0), 50.0)

    @jax.jit
    def train_step(params, opt_state):
        def loss(params):
            return -jnp.mean(log_prob_of(params, x)) / dims

        updates, opt_state = optimiser.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    trained = perturbed(initial, 0.05)
    opt_state = jax.jit(optimiser.init)(trained)
    for _ in range(steps):
        trained, opt_state = train_step(trained, opt_state)
    for params in (initial, trained):
        latents, log_prob, jacobian = forward(params, x)
        np.testing.assert_allclose(inverse(params, latents), x, rtol=1e-8, atol=atol)
        # From any point of the latent space, not only from the image of x.
        other = tuple(np.cos(np.arange(z.size)).reshape(z.shape) for z in latents)
        again = forward(params, inverse(params, other))[0]
        for theirs, ours in zip(again, other, strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-7, atol=1e-7)
        # log p(x) = log N(z; 0, 1) + log|det dz/dx|, with no help from the flow's own log-dets.
        jacobian = np.asarray(jacobian)
        blocks = np.stack([jacobian[i, :, i] for i in range(batch)])
        assert np.count_nonzero(jacobian) == np.count_nonzero(blocks)
        z = np.concatenate([np.asarray(z).reshape(batch, -1) for z in latents], axis=-1)
        log_density = -0.5 * np.sum(z**2 + np.log(2 * np.pi), axis=-1)
        expected = log_density + np.linalg.slogdet(blocks)[1]
        np.testing.assert_allclose(log_prob, expected, rtol=1e-8, atol=1e-8)
    assert [z.shape[1:] for z in latents] == flow.latent_shapes(x.shape[1:])
