"""The training state of a model, and its optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax import Array

from flowvid.arrays import Params
from flowvid.conditioning.protocol import BY_ADAM
from flowvid.config.schema import Config
from flowvid.flows.scale_and_shift import depends_on_vector

_MUON_COEFFICIENTS, _MUON_ITERATIONS = (3.4445, -4.7750, 2.0315), 5  # of Jordan et al. (2024)


class ModelState(NamedTuple):
    """Everything that a step of training changes in one model (the head or the tail)."""

    params: Params
    average: Params | None  # moving average of the parameters, if config.ema_decay is not zero
    opt_state: optax.OptState
    step: Array  # scalar int32: steps taken, skipped ones included
    skipped: Array  # scalar int32: steps with a non-finite loss or gradient
    skipped_in_a_row: Array  # scalar int32: consecutive skipped steps up to the last step
    clipped: Array  # scalar int32: steps whose gradient was clipped


def is_constant(path: jax.tree_util.KeyPath) -> bool:
    """Returns whether a leaf of the parameters is a constant, which training does not change."""
    return any(getattr(entry, "key", None) == "constants" for entry in path)


def num_parameters(params: Params) -> int:
    """Returns the number of trainable parameters, without constants such as P of the 1x1s."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if not is_constant(path))


def depends_on_label(path: jax.tree_util.KeyPath) -> bool:
    """Returns whether a leaf of the parameters acts on labels alone, as its path says."""
    is_table = any(getattr(entry, "key", None) == "labels" for entry in path)
    return is_table or depends_on_vector(path)


def learning_rate(config: Config, largest: float) -> optax.Schedule:
    """Returns a linear warm-up to `largest`, then a constant or a cosine that ends at zero.

    The warm-up starts above zero, so that no step is wasted. The cosine starts one step after the
    warm-up has ended, which `optax.warmup_cosine_decay_schedule` cannot express.
    """
    first = largest / max(config.warmup_steps, 1)
    warmup = optax.warmup_constant_schedule(first, largest, config.warmup_steps - 1)
    if config.schedule == "constant":
        return warmup
    decay_steps = max((config.num_steps or 0) - config.warmup_steps, 1)
    cosine = optax.cosine_decay_schedule(largest, decay_steps)
    return optax.join_schedules([warmup, cosine], [config.warmup_steps])


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Clips like `optax.clip_by_global_norm`, but by one factor for all gradients.

    Optax divides each gradient, and XLA writes these quotients to memory, as large as all
    parameters together; it fuses a product into Adam.
    """
    return optax.stateless(
        lambda gradients, _: optax.tree.scale(
            jnp.minimum(1.0, limit / optax.tree.norm(gradients)), gradients
        )
    )


def matrices(params: Params) -> Any:
    """Returns which axes of the parameters are the rows and columns of matrices, for Muon.

    Kernels of dense layers are [in, out], possibly stacked, and those of convolutions [height,
    width, in, out]. None stands for what Adam trains: parameters that are no matrices, those that
    act on labels alone, and those whose name says so (`BY_ADAM`).
    """

    def dimensions(path: jax.tree_util.KeyPath, leaf: Any) -> Any:
        keys = [str(getattr(entry, "key", "")) for entry in path]
        by_adam = depends_on_label(path) or any(key.endswith(BY_ADAM) for key in keys)
        if keys[-1] != "kernel" or by_adam:
            return None
        rows = (0, 1, 2) if leaf.ndim == 4 else (leaf.ndim - 2,)
        return optax.contrib.MuonDimensionNumbers(rows, (leaf.ndim - 1,))

    return jax.tree_util.tree_map_with_path(dimensions, params)


def _are_matrices(params: Params) -> Any:
    """Returns which parameters are matrices; those that `optax.partition` masks stay so."""
    return jax.tree.map(
        lambda dimensions: dimensions is not None,
        matrices(params),
        is_leaf=lambda x: x is None or isinstance(x, optax.contrib.MuonDimensionNumbers),
    )


def optimizer(
    config: Config, clip: float, rate: float | None = None
) -> optax.GradientTransformation:
    """Returns Adam after clipping by global norm (paper, section IX); it leaves constants alone.

    With `config.muon_learning_rate`, Muon (Jordan et al. 2024) trains the matrices of networks: it
    turns their gradient into an orthogonal matrix.

    Args:
        config: the run's.
        clip: the largest norm of the gradient.
        rate: the learning rate at its largest; the default is the run's. What depends on labels
            alone has its own, if the configuration says so.
    """
    rate = config.learning_rate if rate is None else rate
    of_labels = config.label_learning_rate

    def parts(params: Params) -> Params:
        return jax.tree_util.tree_map_with_path(lambda path, _: part(path), params)

    def part(path: jax.tree_util.KeyPath) -> str:
        if is_constant(path):
            return "constant"
        return "trained" if of_labels is None or not depends_on_label(path) else "labels"

    decay = config.weight_decay
    descent = optax.adam(learning_rate(config, rate))
    if decay:
        descent = optax.adamw(learning_rate(config, rate), weight_decay=decay, mask=_are_matrices)
    if config.muon_learning_rate is not None:
        descent = optax.contrib.muon(
            learning_rate(config, config.muon_learning_rate),
            # One row per iteration, so that each matrix has a loop over them. Optax unrolls the
            # iterations of a single row, and the step takes longer to compile.
            ns_coeffs=(_MUON_COEFFICIENTS,) * _MUON_ITERATIONS,
            adam_learning_rate=learning_rate(config, rate),
            muon_weight_dimension_numbers=matrices,
            weight_decay=decay,
        )
    trained = optax.chain(clip_by_global_norm(clip), descent)
    found = {"trained": trained, "constant": optax.set_to_zero()}
    if of_labels is not None:
        found["labels"] = optax.chain(
            clip_by_global_norm(clip), optax.adam(learning_rate(config, of_labels))
        )
    return optax.partition(found, parts)


def create(config: Config, params: Params, optimiser: optax.GradientTransformation) -> ModelState:
    """Returns the state before the first step."""
    average = jax.tree.map(jnp.copy, params) if config.ema_decay else None
    zeros = (jnp.zeros((), jnp.int32) for _ in range(4))
    return ModelState(params, average, optimiser.init(params), *zeros)


def next_average(config: Config, average: Params | None, params: Params, step: Array) -> Params:
    """Returns the moving average of the parameters after a step, or None if none is kept."""
    return average if average is None else moving_average(config.ema_decay, average, params, step)


def moving_average(largest_decay: float, average: Params, params: Params, step: Array) -> Params:
    """Returns an exponential moving average of the parameters after a step.

    The decay rises as (1 + step) / (10 + step) up to `largest_decay`, so that the average soon
    forgets the first steps. An average of LU forms is an LU form, so the averaged flow is exactly
    invertible, too. Constants do not change in any bit.
    """
    decay = jnp.minimum(largest_decay, (1 + step) / (10 + step))
    moved = optax.incremental_update(params, average, 1 - decay)
    return jax.tree_util.tree_map_with_path(
        lambda path, kept, new: kept if is_constant(path) else new, average, moved
    )


def eval_params(state: ModelState) -> Params:
    """Returns the parameters to evaluate and sample from: the average if one is kept."""
    return state.params if state.average is None else state.average
