"""Helpers of the system tests: a tiny configuration, saved states, comparisons of trees."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.running import finished_runs
from flowvid.config import config_file
from flowvid.config.schema import Config
from flowvid.config.variants import VARIANTS
from flowvid.training import loop, trainer
from flowvid.training.checkpoints import reading, run_state
from flowvid.training.checkpoints.saving import Checkpoints
from flowvid.training.train_state import ModelState, is_constant

NUM_CLIPS = {"train": 12, "validation": 5}
# The other one takes as long to train, and its label in the tail is tested with the mixture flow.
PAPERS_VARIANTS = {name: VARIANTS[name] for name in ("init", "prev_frame", "state", "state_label")}
TINY = {
    "preset": "paper_small",
    "levels": 1,
    "head_steps": 1,
    "tail_steps": 1,
    "width": 8,
    "state_size": 4,
    "image_size": 16,  # of 32, averaged down
    "num_frames": 5,
    "batch_size": 4,
    "tail_frames": 2,
    "num_steps": 4,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "schedule": "constant",
    "eval_every": 2,
    "checkpoint_every": 2,
    "log_every": 1,
}
DIMS = 16 * 16 * 3  # of a frame


def assert_same(tree: object, other: object) -> None:
    """Asserts that two trees have the same structure, types and bits."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_array_equal(a, b)


def relative_distance(a: object, b: object) -> float:
    """Returns |a - b| / |b| of two arrays, in double precision, where 0 / 0 is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    distance, norm = np.linalg.norm(a - b), np.linalg.norm(b)
    if not distance:
        return 0.0
    return float(distance / norm) if norm else math.inf


def assert_near(tree: object, other: object, tolerance: float) -> None:
    """Asserts that trees have the same structure, and no leaf is further than `tolerance`."""
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for (path, a), b in zip(leaves, jax.tree.leaves(other), strict=True):
        assert np.shape(a) == np.shape(b), jax.tree_util.keystr(path)
        assert relative_distance(a, b) <= tolerance, jax.tree_util.keystr(path)


def drawn_params(shapes: Any) -> Any:
    """Returns random parameters of these shapes, so that no network is zero."""
    rng = np.random.default_rng(0)

    def draw(path: Any, leaf: Any) -> jax.Array:
        if not is_constant(path):
            return jnp.asarray(np.float32(0.1 * rng.normal(size=leaf.shape)))
        of_permutation = path[-1].key == "permutation"
        value = np.eye(leaf.shape[-1], dtype=np.float32) if of_permutation else np.float32(-1)
        return jnp.asarray(np.broadcast_to(value, leaf.shape))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def save_untrained(config: Config, workdir: Path) -> None:
    """Saves a run of random parameters, which takes no compilation, as if after one step."""
    config, dataset, _ = loop.prepare(config)
    state = trainer.state_template(config)
    params = drawn_params({name: getattr(state, name).params for name in config.models})
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    models = {
        name: getattr(zeros, name)._replace(params=of_model) for name, of_model in params.items()
    }
    if config.ema_decay:
        models = {
            name: of_model._replace(average=of_model.params) for name, of_model in models.items()
        }
    one = np.ones((), np.int64)
    state = zeros._replace(step=one, restore_step=one, **models)
    workdir.mkdir(exist_ok=True)
    config_file.write(config, dataset.label_names, workdir)
    with Checkpoints(workdir, config, dataset.label_names) as checkpoints:
        checkpoints.save(jax.tree.map(np.asarray, state))
        checkpoints.wait()


def saved(workdir: Path, step: int) -> run_state.RunState:
    """Returns the state in the checkpoint of a step."""
    template = trainer.state_template(reading.read_config(workdir)[0])
    host = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
    with ocp.CheckpointManager(workdir / "checkpoints") as manager:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(host))
        return manager.restore(step, args=items)["state"]


def events(workdir: Path) -> dict[str, dict[int, float]]:
    """Returns the TensorBoard scalars of a run: {tag: {step: value}}."""
    curves = finished_runs.scalars(workdir)
    return {tag: dict(zip(*curve, strict=True)) for tag, curve in curves.items()}


def small_state(
    step: int, *, in_a_row: int = 0, value: float = 0.0, size: int = 1000
) -> run_state.RunState:
    """Returns a made-up state of a run of the head alone, one array of which has its own file."""
    rng = np.random.default_rng(step)
    large = rng.normal(size=(size,)).astype(np.float32)
    count = lambda n: np.asarray(n, np.int32)  # noqa: E731
    model = ModelState(
        params={"large": large, "small": np.float32([step + value])},
        average=None,
        opt_state={},
        step=count(step),
        skipped=count(in_a_row),
        skipped_in_a_row=count(in_a_row),
        clipped=count(0),
    )
    counts = (np.asarray(n, np.int64) for n in (step, 8 * step, step - in_a_row, 0))
    return run_state.RunState(model, None, *counts)
