"""Glow against an independent implementation: the likelihoods and samples in golden/README.md."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import relative_distance

from flowvid.config.metrics import METRICS
from flowvid.flows.glow.flow import Glow
from flowvid.video.pixels import bits_per_dim

FOLDER = pathlib.Path(__file__).parent / "golden"
LEVELS, STEPS, WIDTH = 2, 2, 16
NO_CONTEXT = (None,) * LEVELS


@pytest.fixture(scope="module", params=["additive", "affine"])
def golden(request):
    """Returns the kind of coupling and the arrays of its file, by key."""
    with np.load(FOLDER / f"glow_{request.param}.npz") as arrays:
        return request.param, dict(arrays)


def channels_last(kernel):
    """Returns a kernel [out, in, rows, columns] as [rows, columns, in, out]."""
    return kernel.transpose(2, 3, 1, 0)


def mirrored(kernel):
    """Returns a kernel [out, in, rows, columns] as [rows, columns, out, in], flipped in space."""
    return kernel[:, :, ::-1, ::-1].transpose(2, 3, 0, 1)


def ported_step(of):
    """Returns the parameters of one step of flow; `of(name)` reads an array of the file."""
    scale = of("actnorm/scale").reshape(-1)
    assert np.all(scale > 0)
    triangles = np.tril(of("invconv/w_l"), -1) + np.triu(of("invconv/w_u"), 1)
    network = {
        "kernel_0": channels_last(of("coupling/net/0/weight")),
        "bias_0": of("coupling/net/0/bias"),
        "kernel_1": of("coupling/net/2/weight")[:, :, 0, 0].T,
        "bias_1": of("coupling/net/2/bias"),
        "kernel_2": mirrored(of("coupling/net/4/conv/weight")),
        "bias_2": of("coupling/net/4/conv/bias"),
        "scale": of("coupling/net/4/scale").reshape(-1),
    }
    return (
        {"shift": of("actnorm/loc").reshape(-1), "log_scale": np.log(scale)},
        {
            "lower_upper": triangles + np.diag(of("invconv/w_s")),
            "constants": {"permutation": of("invconv/w_p"), "sign": of("invconv/s_sign")},
        },
        {"params": network},
    )


def ported(arrays):
    """Returns the parameters of the file as the tree of `glow`."""

    def step(level, index):
        return ported_step(lambda name: arrays[f"params/blocks/{level}/flows/{index}/{name}"])

    def prior(level):
        start = f"params/blocks/{level}/prior"
        kernel, bias, scale = (
            arrays[f"{start}/{name}"] for name in ("conv/weight", "conv/bias", "scale")
        )
        return kernel, bias, scale.reshape(-1)

    kernel, bias, scale = prior(0)
    convolution = {"kernel": channels_last(kernel), "bias": bias}
    # The last prior's input is zero, which leaves its scaled bias.
    _, last_bias, last_scale = prior(LEVELS - 1)
    mean, log_sd = np.split(last_bias * np.exp(3 * last_scale), 2)
    steps = [[step(level, index) for index in range(STEPS)] for level in range(LEVELS)]
    return {
        "flows": tuple(jax.tree.map(lambda *each: np.stack(each), *level) for level in steps),
        "priors": ({"params": {"Conv_0": convolution, "scale": scale}},),
        "last_prior": {"mean": mean, "log_sd": log_sd},
    }


def computed(kind, arrays, dtype):
    """Returns what the file holds of results, computed by flowvid in `dtype`."""
    flow = Glow(LEVELS, STEPS, WIDTH, kind).as_flow()
    params, x, latents = jax.tree.map(
        lambda a: jnp.asarray(a, dtype),
        (ported(arrays), arrays["x"], tuple(arrays[f"latents/{i}"] for i in range(LEVELS))),
    )
    template = jax.eval_shape(flow.init, jax.random.key(0), x, NO_CONTEXT)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, template)

    @jax.jit
    def compute(params, x, latents):
        density = flow.log_prob(params, x, NO_CONTEXT)
        sample = flow.decode(params, latents, NO_CONTEXT)
        again = flow.encode(params, sample, NO_CONTEXT)
        return {
            "log_det": density.log_det,
            "log_prior": density.log_prior,
            "bits_per_dim_5": bits_per_dim(density.log_prob, x[0].size, METRICS["5-bit"]),
            "sample": sample,
        } | {f"latents/{i}": z for i, z in enumerate(again)}

    results = compute(params, x, latents)
    assert {result.dtype for result in results.values()} == {jnp.dtype(dtype)}
    return results


def test_double_precision_equals_the_golden_values(golden, float64):
    kind, arrays = golden
    for name, result in computed(kind, arrays, jnp.float64).items():
        np.testing.assert_allclose(result, arrays[name], rtol=1e-11, atol=1e-11, err_msg=name)


def test_single_precision_is_near_the_golden_values(golden):
    kind, arrays = golden
    for name, result in computed(kind, arrays, jnp.float32).items():
        if name in ("log_det", "log_prior", "bits_per_dim_5"):
            np.testing.assert_allclose(result, arrays[name], rtol=1e-5, err_msg=name)
        else:  # a pixel near zero carries the rounding of its neighbours
            assert relative_distance(result, arrays[name]) < 1e-5, name
