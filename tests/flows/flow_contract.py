"""What every flow promises, checked in double precision before and after training steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flowvid.config.making import preset_config
from flowvid.flows.density import gaussian_log_density
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

    @jax.jit
    def forward(params, x):
        """(latents, log_prob, Jacobian of all latents with respect to x)."""

        def flat_forward(x):
            latents = flow.encode(params, x, contexts)
            return flat(latents), (latents, flow.log_prob(params, x, contexts).log_prob)

        jacobian, (latents, log_prob) = jax.jacrev(flat_forward, has_aux=True)(x)
        return latents, log_prob, jacobian.reshape(batch, dims, batch, dims)

    inverse = jax.jit(lambda params, latents: flow.decode(params, latents, contexts))
    optimiser = train_state.optimizer(preset_config("paper_small", warmup_steps=0), 50.0)

    @jax.jit
    def train_step(params, opt_state):
        def loss(params):
            return -jnp.mean(flow.log_prob(params, x, contexts).log_prob) / dims

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
        other = tuple(jnp.cos(jnp.arange(z.size)).reshape(z.shape) for z in latents)
        again = forward(params, inverse(params, other))[0]
        np.testing.assert_allclose(flat(again), flat(other), rtol=1e-7, atol=1e-7)
        # log p(x) = log N(z; 0, 1) + log|det dz/dx|, with no help from the flow's own log-dets.
        blocks = np.stack([jacobian[i, :, i] for i in range(batch)])
        assert np.count_nonzero(jacobian) == np.count_nonzero(blocks)
        expected = gaussian_log_density(flat(latents)) + np.linalg.slogdet(blocks)[1]
        np.testing.assert_allclose(log_prob, expected, rtol=1e-8, atol=1e-8)
    assert [z.shape[1:] for z in latents] == flow.latent_shapes(x.shape[1:])
