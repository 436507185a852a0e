"""The four phases of an image: split, merged, and interpolated from those that are known."""

import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.flows.mixture import phases


@pytest.mark.parametrize("phase", phases.ORDER)
def test_interpolation_uses_the_four_nearest_known_pixels(phase):
    """Away from edges, a plane is interpolated exactly, by pixels that are known by then."""
    rows, columns = np.mgrid[:8, :8]
    plane = jnp.asarray(2.0 * rows + 3.0 * columns, jnp.float32)[None, :, :, None]
    split = phases.split(plane)
    before = phases.ORDER[: phases.ORDER.index(phase)]
    known = {p: split[p] for p in (0, *before)}
    found = phases.interpolated(known, phase)
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], split[phase][:, 1:-1, 1:-1], rtol=1e-6)


def test_phases_are_merged_as_they_were_split():
    x = jnp.arange(2.0 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    split = phases.split(x)
    np.testing.assert_array_equal(split[1], x[:, ::2, 1::2])
    np.testing.assert_array_equal(split[2], x[:, 1::2, ::2])
    np.testing.assert_array_equal(phases.merge(dict(enumerate(split))), x)
