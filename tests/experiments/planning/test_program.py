"""What a traced program does is counted: by hand for small ones, and as XLA counts whole steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from tiny_models import LABELS, MIXTURE_SIZES

from experiments.planning import program, step_work
from flowvid.conditioning.unet import motion
from flowvid.config.making import preset_config
from flowvid.training import trainer

A, B = np.ones((4, 8), np.float32), np.ones((8, 16), np.float32)
PRODUCT = 2 * 4 * 8 * 16
BYTES = 4 * (4 * 8 + 8 * 16 + 4 * 16)


def counted(function, *arguments, platform="cpu", trips=1):
    return program.count(jax.make_jaxpr(function)(*arguments).jaxpr, platform, trips)


def test_a_product_reads_its_operands_and_writes_its_result():
    work = counted(jnp.dot, A, B)
    assert (work.product_flop, work.traffic, work.kernels) == (PRODUCT, BYTES, 1)
    assert work.flop == PRODUCT and work.elementwise == work.transcendental == 0


def test_products_in_16_bits_are_counted_apart():
    work = counted(jnp.dot, A.astype(jnp.bfloat16), B.astype(jnp.bfloat16))
    assert (work.product_flop, work.low_product_flop) == (0, PRODUCT)
    assert work.traffic == BYTES / 2


def test_elementwise_operations_are_one_kernel_with_what_follows():
    work = counted(lambda x: jnp.exp(2 * x) + 1, A)
    assert (work.elementwise, work.transcendental) == (2 * A.size, A.size)
    assert work.traffic == 2 * A.nbytes
    summed = counted(lambda x: jnp.sum(2 * x), A)
    assert (summed.elementwise, summed.traffic) == (2 * A.size, A.nbytes + 4)


def test_windows_of_convolutions_are_numbers_that_are_put_together():
    joined = counted(lambda x: jnp.concatenate([x, 2 * x], axis=-1) @ B.repeat(2, axis=0), A)
    assert (joined.windows, joined.elementwise) == (2 * A.size, A.size)
    assert counted(lambda x: jnp.concatenate([x, x], axis=0), A).windows == 0
    assert counted(lambda x: jnp.pad(x, 1), A).windows == 6 * 10


@pytest.mark.parametrize("side", [16, 64, 256])
def test_small_products_are_counted_apart(side):
    work = counted(jnp.dot, np.ones((512, 512), np.float32), np.ones((512, side), np.float32))
    assert work.product_flop == 2 * 512 * 512 * side
    assert work.narrow_flop == work.product_flop * (side == 16)
    assert work.medium_flop == work.product_flop * (side == 64)


def test_calls_are_inlined_and_what_nothing_needs_is_dropped():
    inner = jax.jit(lambda x: (2 * x, x @ B))
    assert counted(lambda x: inner(x)[0] + 1, A) == counted(lambda x: 2 * x + 1, A)


def test_loops_count_as_often_as_they_run():
    def scanned(x):
        return lax.scan(lambda c, _: (c @ x, None), x, None, length=5)[0]

    square = np.ones((8, 8), np.float32)
    once = 2 * 8**3
    assert counted(scanned, square).product_flop == 5 * once
    looped = lambda x, n: lax.fori_loop(0, n, lambda _, y: y @ x, x)  # noqa: E731
    assert counted(looped, square, 7, trips=3).product_flop == 3 * once


def test_the_platforms_branch_and_the_costliest_branch_count():
    def on(x):
        return lax.platform_dependent(x, cpu=lambda x: x @ B, default=lambda x: x @ B @ B.T @ B)

    assert counted(on, A, platform="cpu").product_flop == PRODUCT
    assert counted(on, A, platform="cuda").product_flop == 3 * PRODUCT
    chosen = lambda x, p: lax.cond(p, lambda: x @ B, lambda: jnp.zeros((4, 16)))  # noqa: E731
    assert counted(chosen, A, True).product_flop == PRODUCT


def test_convolutions_count_the_pixels_under_their_window():
    x, kernel = np.ones((2, 6, 6, 3), np.float32), np.ones((3, 3, 3, 5), np.float32)
    numbers = ("NHWC", "HWIO", "NHWC")

    def convolved(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    assert counted(convolved, x, kernel).product_flop == 2 * 2 * 36 * 5 * 27
    # The gradients cost as much each, whatever form their convolutions have.
    gradients = jax.grad(lambda *of: jnp.sum(convolved(*of) ** 2), argnums=(0, 1))
    assert counted(gradients, x, kernel).product_flop == 3 * 2 * 2 * 36 * 5 * 27


# Models whose loops run once, as XLA counts them.
ONCE = {
    "num_frames": 2,
    "tail_frames": None,
    "image_size": 8,
    "batch_size": 2,
    "num_labels": LABELS,
    "head_frames_drawn": 1,
}
GLOW = {"preset": "paper_small", "levels": 1, "head_steps": 1, "tail_steps": 1, "width": 16}
MIXTURE = {"preset": "small", "muon_learning_rate": None}
STEPS = [
    ("tail", GLOW | {"variant": "state"}),
    ("head", MIXTURE | MIXTURE_SIZES | {"variant": "state"}),
    ("tail", MIXTURE | MIXTURE_SIZES | {"variant": "state"}),
]


@pytest.mark.parametrize(("name", "changes"), STEPS)
def test_a_step_has_the_arithmetic_that_xla_counts(name, changes, monkeypatch):
    monkeypatch.setattr(step_work, "expected_trips", lambda videos: 1)
    # XLA counts a loop's body once.
    for name_of_count, once in (("_COARSE_STEPS", 1), ("_FARTHEST", 0)):
        monkeypatch.setattr(motion, name_of_count, once)
    config = preset_config(**ONCE | changes)
    work = step_work.work(config, name, devices=1, platform="cpu")
    state, batch = step_work.arguments(config, name, devices=1)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), (state, batch))
    analysis = trainer.train_steps(config)[name].lower(*one).cost_analysis()
    assert 0.9 < work.flop / analysis["flops"] < 1.1
    assert work.transcendental < 2 * analysis["transcendentals"]
    assert work.traffic < analysis["bytes accessed"]  # which fuses nothing
