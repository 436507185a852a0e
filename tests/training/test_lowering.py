"""What accelerators are given to compile: no double precision, no copies of images, no surprises.

StableHLO of a whole training step on one device, as `shard_map` takes it: `vmap`, which stands for
`pmap` elsewhere, would add transpositions of its own.
"""

import functools
import re
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from flowvid.config.making import preset_config
from flowvid.parallel.devices import DEVICES
from flowvid.training import objectives, steps, train_state
from flowvid.video import joint
from flowvid.video.frames import Batch

BATCH, FRAMES, SIZE, WIDTH, STEPS = 4, 5, 8, 20, 3  # 20 channels are in coupling networks alone
SETTINGS = {
    "stored": {},
    "reversible_bfloat16": {"backprop": "reversible", "compute_dtype": "bfloat16"},
}
every_step = [
    pytest.mark.parametrize("platform", ["cuda", "tpu"]),
    pytest.mark.parametrize("setting", SETTINGS),
    pytest.mark.parametrize("model", objectives.LOSSES),
]


def on_every_step(test):
    for mark in every_step:
        test = mark(test)
    return test


class Lowered(NamedTuple):
    """A training step as text, and its results' types."""

    text: str
    results: list[jax.core.ShapedArray]


@functools.cache
def step_and_arguments(model, setting):
    config = preset_config(
        "paper_small",
        variant="state",
        levels=2,
        head_steps=STEPS,
        tail_steps=STEPS,
        width=WIDTH,
        state_size=4,
        image_size=SIZE,
        num_frames=FRAMES,
        tail_frames=None,
        tail_chunk=4,
        **SETTINGS[setting],
    )
    optimiser = train_state.optimizer(config, 50.0)
    shapes = ((BATCH, FRAMES, SIZE, SIZE, 3), np.uint8), ((BATCH,), np.int32), ((BATCH,), np.uint32)
    batch = Batch(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
    params = jax.eval_shape(functools.partial(joint.init_params, config), batch)[model]
    fresh = jax.eval_shape(
        functools.partial(train_state.create, config, optimiser=optimiser), params
    )
    body = functools.partial(steps.train_step, config, objectives.LOSSES[model], optimiser, 50.0)
    on_one_device = jax.shard_map(
        body,
        mesh=jax.make_mesh((1,), (DEVICES,), devices=jax.local_devices()[:1]),
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    return jax.jit(on_one_device), (fresh, batch)


@functools.cache
def lowered(model, setting, platform):
    step, arguments = step_and_arguments(model, setting)
    exported = jax.export.export(step, platforms=[platform])(*arguments)
    return Lowered(exported.mlir_module(), exported.out_avals)


class Operation(NamedTuple):
    """One line of StableHLO, and the shapes and element types of its operands and its result."""

    line: str
    shapes: list[tuple[int, ...]]
    kinds: list[str]


def operations(text, name):
    found = []
    for line in text.splitlines():
        if re.search(rf'stablehlo\.{name}"?[ (]', line):
            types = re.findall(r"tensor<((?:\d+x)*)(\w+)>", line.rsplit(" : (", 1)[-1])
            shapes = [tuple(int(n) for n in sizes.split("x")[:-1]) for sizes, _ in types]
            found.append(Operation(line, shapes, [kind for _, kind in types]))
    return found


def test_operations_are_read_with_their_operands():
    def function(x, kernel):
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.swapaxes(y, 1, 2)[jnp.array([1, 0])]

    x, kernel = jnp.zeros((2, 4, 6, 3), jnp.bfloat16), jnp.zeros((3, 3, 3, 5), jnp.bfloat16)
    text = jax.export.export(jax.jit(function), platforms=["tpu"])(x, kernel).mlir_module()
    (convolution,) = operations(text, "convolution")
    assert convolution.shapes == [(2, 4, 6, 3), (3, 3, 3, 5), (2, 4, 6, 5)]
    assert convolution.kinds == ["bf16"] * 3
    (transpose,) = operations(text, "transpose")
    assert transpose.shapes == [(2, 4, 6, 5), (2, 6, 4, 5)]
    (gather,) = operations(text, "gather")
    assert gather.shapes == [(2, 6, 4, 5), (2, 1), (2, 6, 4, 5)]
    assert gather.kinds == ["bf16", "i32", "bf16"]


@on_every_step
def test_nothing_is_in_double_precision(model, setting, platform):
    text, results = lowered(model, setting, platform)
    assert "f64" not in text
    assert {str(result.dtype) for result in results} == {"float32", "int32"}


@on_every_step
def test_convolutions_get_images_as_they_lie(model, setting, platform):
    """Channels last in every convolution and in every gradient of one; no copy between."""
    text, _ = lowered(model, setting, platform)
    layouts = [
        re.search(r"dim_numbers = \[(.*?)\]x\[.*?\]->", operation.line).group(1)
        for operation in operations(text, "convolution")
    ]
    assert set(layouts) == {"b, 0, 1, f", "f, 0, 1, b"}
    # Images have four axes, and so do the 3x3 kernels that are kept as their mirror images. Channel
    # matrices, squeezes and frames in time have others.
    transposed = [operation.shapes[0] for operation in operations(text, "transpose")]
    assert {len(shape) for shape in transposed} <= {2, 3, 4, 5, 6}
    assert [s for s in transposed if len(s) == 4 and s[:2] != (3, 3)] == []


@on_every_step
def test_nothing_is_gathered_step_by_step(model, setting, platform):
    """But the diagonals of matrices, for all steps at once, where inverses are needed."""
    text, _ = lowered(model, setting, platform)
    assert "dynamic_gather" not in text
    gathered = [operation.shapes[0] for operation in operations(text, "gather")]
    if setting == "stored":
        assert gathered == []
    for shape in gathered:
        assert shape in {(STEPS, channels, channels) for channels in (12, 24)}


@on_every_step
def test_convolutions_of_the_coupling_networks_alone_are_in_compute_dtype(model, setting, platform):
    kinds = {True: set(), False: set()}  # of convolutions with the width's channels, and of others
    for operation in operations(lowered(model, setting, platform).text, "convolution"):
        kinds[any(WIDTH in shape for shape in operation.shapes)] |= set(operation.kinds)
    assert kinds == {True: {"f32" if setting == "stored" else "bf16"}, False: {"f32"}}


@pytest.mark.parametrize(("platform", "branches"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_whether_a_step_counts_is_a_branch_on_cpu_and_a_selection_elsewhere(platform, branches):
    def change(condition, state):
        return steps.changed_if(condition, lambda: state + 1, state)

    exported = jax.export.export(jax.jit(change), platforms=[platform])(True, jnp.zeros(3))
    text = exported.mlir_module()
    choice_of_platform = 2  # cases of constants, which XLA folds
    assert len(operations(text, "case")) == choice_of_platform + branches
    assert len(operations(text, "select")) == 1 - branches
