"""What is known of objects, and how a small network learns from it how they move on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flowvid.conditioning.unet import dynamics

HEIGHT, WIDTH = 24, 32


def disk(row, column, radius):
    """The mask of a disk, [1, H, W, 1]."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
    return jnp.asarray(inside, jnp.float32)[None, ..., None]


def motions(*steps):
    return [jnp.broadcast_to(jnp.array(step), (1, HEIGHT // 2, WIDTH // 2, 2)) for step in steps]


def known_at(mask, moved, row, column, seen=4.0):
    """The numbers of the object at a pixel, by name."""
    found = dynamics.known_of_objects(mask, moved, jnp.full((1, 1, 1, 1), seen), factor=2)
    assert found.shape[:3] == (1, HEIGHT // 2, WIDTH // 2)
    numbers = found[0, row // 2, column // 2]
    assert numbers.size == dynamics.num_known(len(moved))
    sizes = [2, 2, 2, *[2] * (len(moved) - 1), 1, 12]
    return np.split(np.asarray(numbers), np.cumsum(sizes)[:-1])


def test_place_extent_and_motion_are_those_of_the_object():
    mask, moved = disk(12, 8, 4.3), motions((0.5, 1.0), (0.25, 1.5), (0.0, 1.0))
    for row, column in ((12, 8), (9, 9), (14, 6)):  # anywhere in the object
        centre, extent, motion, change, earlier, age, beyond = known_at(mask, moved, row, column)
        np.testing.assert_allclose(centre, [2 * 12 / HEIGHT - 1, 2 * 8 / WIDTH - 1], atol=0.06)
        # The standard deviation of a disk's pixels is half of its radius.
        np.testing.assert_allclose(extent, [4 * 4.3 / HEIGHT, 4 * 4.3 / WIDTH], rtol=0.15)
        np.testing.assert_allclose(motion, [0.5, 1.0], rtol=1e-4)
        np.testing.assert_allclose(change, [0.5, -1.0], rtol=1e-3)
        np.testing.assert_allclose(earlier, [0.5, 1.0], rtol=1e-3)
        assert age == 2
        np.testing.assert_array_equal(beyond, np.zeros(12))


def test_objects_have_their_own_numbers():
    mask = disk(6, 6, 3) + disk(17, 26, 3)
    left, right = motions((1.0, 1.0), (-2.0, -2.0))
    is_left = jnp.arange(WIDTH // 2)[None, None, :, None] < WIDTH // 4
    moved = [jnp.where(is_left, left, right)]
    for row, column, step in ((6, 6, 1), (17, 26, -2)):
        centre, _, motion, _, _ = known_at(mask, moved, row, column)
        np.testing.assert_allclose(motion, [step, step], atol=0.05)
        np.testing.assert_allclose(
            centre, [2 * row / HEIGHT - 1, 2 * column / WIDTH - 1], atol=0.06
        )


@pytest.mark.parametrize(
    ("place", "step", "edge"),
    [((18, 16), (2, 0), 0), ((5, 16), (-2, 0), 2), ((12, 26), (0, 2), 1), ((12, 5), (0, -2), 3)],
)
def test_an_object_knows_how_far_it_gets_beyond_an_edge(place, step, edge):
    moved = motions(tuple(map(float, step)))
    beyond = known_at(disk(*place, 5), moved, *place)[-1].reshape(3, 4)  # extents, edges
    others = [number for number in range(4) if number != edge]
    np.testing.assert_array_equal(beyond[:, others], 0)
    assert np.all(np.diff(beyond[:, edge]) > 0)
    # In coarse pixels; the middle of an edge pixel is half a pixel inside.
    far = {0: 18 + 2 + 5 - 24, 2: 5 + 2 - 5, 1: 26 + 2 + 5 - 32, 3: 5 + 2 - 5}[edge]
    assert beyond[0, edge] / 1.9 * 2 <= (far + 5) / 2


def test_the_network_learns_bounces_at_edges_and_what_a_label_says():
    network = dynamics.ObjectNetwork(outputs=2, width=32)
    rng = np.random.default_rng(0)

    def batch(count):
        """Points between walls at 0 and 20: they are reflected, and label 1 adds a fall."""
        step = rng.uniform(-2, 2, (count, 2))
        ahead = rng.uniform(0, 20, (count, 2)) + step
        label = rng.integers(0, 2, count)
        over, under = np.maximum(ahead - 20, 0), np.maximum(-ahead, 0)
        change = 2 * (under - over) + 0.5 * label[:, None] * [1, 0]
        objects = np.concatenate([step, over, under], axis=-1)
        return [
            jnp.asarray(x, jnp.float32)
            for x in (objects[:, None, None], np.eye(2)[label], change[:, None, None])
        ]

    objects, vectors, _ = batch(2)
    params = jax.jit(network.init)(jax.random.key(0), objects, vectors)
    before = network.apply(params, objects, vectors)
    np.testing.assert_array_equal(before, np.zeros((2, 1, 1, 2)))
    optimiser = optax.adam(1e-2)

    def loss(params, objects, vectors, change):
        return jnp.mean(jnp.abs(network.apply(params, objects, vectors) - change))

    @jax.jit
    def step(params, state, *data):
        gradients = jax.grad(loss)(params, *data)
        updates, state = optimiser.update(gradients, state)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    for _ in range(400):
        params, state = step(params, state, *batch(64))
    objects, vectors, change = batch(512)
    assert float(loss(params, objects, vectors, change)) < 0.15 * float(jnp.mean(jnp.abs(change)))
    other = network.apply(params, objects, 1 - vectors) - network.apply(params, objects, vectors)
    says = np.asarray(vectors)[:, 0] - np.asarray(vectors)[:, 1]
    np.testing.assert_allclose(np.mean(other[:, 0, 0, 0] * says), 0.5, atol=0.1)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_motions_at_a_beginning_are_at_rest_or_in_all_directions(factor):
    found = dynamics.beginnings(factor)
    assert found.shape == (dynamics.BEGINNINGS, 2)
    np.testing.assert_array_equal(found[0], [0, 0])
    speeds = np.linalg.norm(found[1:], axis=-1).reshape(4, 12)
    np.testing.assert_allclose(
        speeds, factor / 2 * np.repeat([[0.5], [1], [1.5], [2]], 12, axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(found[1:].reshape(4, 12, 2).sum(axis=1), 0, atol=1e-5)
