"""The last image in two passes: what each pixel depends on, its order, and that coding agrees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from flowvid.flows.bijectors.logistic_mixture import lower_edges
from flowvid.flows.mixture.causal import CausalPixels
from flowvid.flows.mixture.last_image import Seen
from flowvid.flows.mixture.two_passes import RestOfCells, TwoPasses

HEIGHT, WIDTH, NUM_BINS = 4, 12, 32
SIZES = (6, 2, 2, NUM_BINS)
LAST = TwoPasses(CausalPixels(*SIZES), RestOfCells(*SIZES))


def order():
    """The numbers of pixels in the order in which they are drawn."""
    cells = functools.partial(rearrange, pattern="(h r) (w c) -> (h w) (r c)", r=2, c=2)
    numbers = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    return np.concatenate([cells(numbers[::2, ::2]).ravel(), cells(numbers)[:, 1:].ravel()])


def case(seen_as, perturbed, batch=1):
    """Drawn parameters, the lower edges of an image's bins, and what is seen."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, NUM_BINS, (batch, HEIGHT, WIDTH, 3)) / NUM_BINS - 0.5)
    maps = jnp.asarray(rng.normal(size=(batch, HEIGHT, WIDTH, 2))) if seen_as == "maps" else None
    vector = jnp.asarray(rng.normal(size=(batch, 3))) if seen_as == "vector" else None
    seen = Seen(features=maps, vector=vector)
    params = jax.jit(LAST.init)(jax.random.key(0), x, seen)
    return perturbed(jax.tree.map(lambda p: np.asarray(p, np.float64), params), 0.3), x, seen


def test_every_pixel_depends_on_all_that_are_drawn_before_it_and_on_no_other(perturbed, float64):
    params, x, seen = case("nothing", perturbed)

    @jax.jit
    @jax.jacrev
    def jacobian(x):
        found = LAST.mixtures(params, x, seen)
        return jnp.sum(found.means, axis=(0, -2, -1)) + jnp.sum(jnp.sin(found.logits), axis=(0, -1))

    found = np.asarray(jacobian(x)).reshape(HEIGHT * WIDTH, HEIGHT * WIDTH, 3)
    depends = np.any(found != 0, axis=-1)[order()][:, order()]
    np.testing.assert_array_equal(depends, np.tri(len(depends), k=-1, dtype=bool))


@pytest.mark.parametrize("seen_as", ["nothing", "maps", "vector"])
def test_pixels_are_coded_in_order_with_the_mixtures_of_the_density(seen_as, perturbed, float64):
    params, x, seen = case(seen_as, perturbed, batch=2)
    values, places, mixtures = np.asarray(x), [], []

    def code(mixture, at):
        mixtures.append(mixture)
        places.append(np.asarray(at))
        return jnp.asarray(values.ravel()[places[-1]])

    all_places = jnp.arange(x.size).reshape(x.shape)
    np.testing.assert_array_equal(LAST.coded(params, all_places, seen, code), x)
    pixels = np.stack(places)[:, 0] // 3  # of the first image
    np.testing.assert_array_equal(pixels, np.repeat(order()[:, None], 3, axis=1))

    expected = jax.jit(LAST.mixtures)(params, x, seen)
    for name, of_all in expected._asdict().items():
        of_all = of_all.reshape(2, HEIGHT * WIDTH, *of_all.shape[3:])[:, order()]
        coded = np.stack([getattr(mixture, name) for mixture in mixtures], axis=1)
        np.testing.assert_allclose(coded, of_all, rtol=1e-9, atol=1e-9, err_msg=name)


def test_pixels_are_drawn_with_the_mixtures_of_the_density_of_what_is_drawn(perturbed, float64):
    """With two things that are seen, as for guidance, each has its own mixtures."""
    params, x, seen = case("vector", perturbed, batch=2)
    both = [seen, seen._replace(vector=seen.vector + 1)]

    def draw(mixtures, z):
        """Values that tell of both mixtures."""
        wanted = [
            jnp.sum(m.means, axis=-2) + jnp.sum(m.logits, axis=-1, keepdims=True) for m in mixtures
        ]
        return 0.4 * jnp.sin(wanted[0] + 2 * wanted[1] + z)

    drawn = jax.jit(lambda z: LAST.decode(params, z, both, draw))(x)
    mixtures = [jax.jit(LAST.mixtures)(params, lower_edges(drawn, NUM_BINS), one) for one in both]
    np.testing.assert_allclose(draw(mixtures, x), drawn, rtol=1e-7, atol=1e-9)
