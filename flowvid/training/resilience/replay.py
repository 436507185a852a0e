"""Replays a batch that a run has kept in `workdir`/incidents, one example at a time."""

import functools
import math
import pathlib
import zipfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flowvid.config.schema import Config
from flowvid.errors import ConfigError
from flowvid.training import objectives
from flowvid.training.checkpoints import reading
from flowvid.training.steps import parts
from flowvid.video import joint
from flowvid.video.frames import Batch


class Row(NamedTuple):
    """The loss of a model on one example, in bits per dimension, and its gradient norms by part."""

    example: int  # the position in the data
    id: str
    model: str
    bits_per_dim: float
    gradient_norms: dict[str, float]

    @property
    def finite(self) -> bool:
        """Returns whether a step on this example alone would be taken."""
        return all(map(math.isfinite, (self.bits_per_dim, *self.gradient_norms.values())))


def replay(workdir: pathlib.Path, file: pathlib.Path) -> tuple[int, list[Row]]:
    """Computes the loss of each example of a kept batch alone, with the noise of the step.

    The parameters of that step are not kept. The newest checkpoint before it is used instead, or
    the oldest one if there is none before it.

    Returns:
        The step of the checkpoint, and a row per model and example.

    Raises:
        ConfigError: if `file` holds no such batch, or `workdir` no run.
        TrainingError: if the checkpoint cannot be read.
    """
    config, _ = reading.read_config(workdir)
    kept = _read(file)
    step = int(kept["step"]) - 1  # step 1 starts from the state of step 0
    saved = reading.saved_steps(workdir)
    before = [s for s in saved if s <= step]
    checkpoint = str(max(before) if before else min(saved))
    template = joint.params_template(config)
    params, at = reading.restore_params(workdir, template, checkpoint=checkpoint)
    rows = []
    for name in config.models:
        grad = jax.jit(functools.partial(_bits_and_norms, config, name))
        on_device = jax.tree.map(jnp.asarray, params[name])
        for i, example in enumerate(kept["index"]):
            one = (jnp.asarray(kept[field][i : i + 1]) for field in ("video", "label", "index"))
            bits, norms = grad(on_device, Batch(*one), step)
            norms = {part: float(norm) for part, norm in norms.items()}
            rows.append(Row(int(example), str(kept["id"][i]), name, float(bits), norms))
    return at, rows


def _bits_and_norms(config: Config, name: str, params: Any, batch: Batch, step: Any) -> Any:
    loss = functools.partial(objectives.LOSSES[name], config)
    (bits, _), gradients = jax.value_and_grad(loss, has_aux=True)(params, batch, step)
    return bits, {part: optax.tree.norm(g) for part, g in parts(gradients).items()}


def _read(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file) as kept:
            return {field: kept[field] for field in ("step", "video", "label", "index", "id")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"--inspect={file} holds no batch that a run has kept ({error}): use one of the .npz "
            "files in <workdir>/incidents."
        ) from error


def format_rows(at: int, rows: list[Row]) -> str:
    """Returns the rows as a table for the terminal, in which non-finite ones are marked."""
    width = max(len(row.id) for row in rows)
    lines = [
        f"Each example alone, with the parameters of step {at}:",
        f"{'example':>10}  {'id':{width}}  model  bits per dim  gradient norms",
    ]
    for row in rows:
        norms = ", ".join(f"{part} {norm:.3g}" for part, norm in row.gradient_norms.items())
        mark = "" if row.finite else "  <- non-finite"
        lines.append(
            f"{row.example:>10}  {row.id:{width}}  {row.model:5}  {row.bits_per_dim:12.4g}  {norms}"
            + mark
        )
    return "\n".join(lines)
