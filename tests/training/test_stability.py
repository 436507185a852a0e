"""The stability watch: it sees extremes wherever they are, and warns before a model breaks."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.data import datasets
from flowvid.flows.glow.diagnostics import condition, log_scale_range
from flowvid.training import loop, stability, trainer

pytest_plugins = ["system_fixtures"]

MODELS = ("head", "tail")


@pytest.fixture(scope="module")
def watched(tiny):
    """A function from a variant to (watch, parameters before the first step)."""
    made = {}

    def watched(variant="state_label", **changes):
        key = (variant, *changes.items())
        if key not in made:
            config, dataset, held_out = loop.prepare(tiny(variant=variant, **changes))
            batch = trainer.to_batch(next(datasets.eval_batches(held_out, batch_size=2)))
            run = trainer.initial_state(config, dataset)
            params = {name: getattr(run, name).params for name in config.models}
            made[key] = stability.Watch(config, batch), params
        watch, params = made[key]
        return watch, copy.deepcopy(params)

    return watched


@pytest.mark.parametrize("coupling", ["additive", "affine"])
def test_a_healthy_model_gives_no_warning(watched, coupling):
    watch, params = watched(coupling=coupling)
    report = watch(params)
    assert set(report) == set(MODELS)
    for values in report.values():
        assert 0 < values["round_trip_error"].value < 1e-4
        assert values["condition"].value == pytest.approx(1, abs=1e-3)  # rotations
        assert values["log_scale_min"].value <= 0 < values["log_scale_max"].value
    assert "context_log_scale_max" in report["tail"]  # of the processor
    assert "context_log_scale_max" not in report["head"]
    assert stability.warnings(report) == {}


def test_a_head_alone_is_watched_alone(watched):
    watch, params = watched("prev_frame", num_frames=1, tail_frames=None)
    assert set(watch(params)) == {"head"}


def test_the_condition_is_the_ratio_of_singular_values():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    harmless, stretched = rotation, rotation @ np.diag([8.0, 2.0, 0.5])
    assert condition(np.stack([harmless, stretched])) == pytest.approx(16)
    assert condition(np.full((3, 3), np.nan)) == np.inf


LOG_SCALES = {"log_scale", "log_sd", "scale"}


def paths_to(params, names):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [path for path, _ in leaves if getattr(path[-1], "key", "") in names]


def with_first_entry(params, path, value):
    """The parameters with the first number of the leaf at `path` changed."""
    return jax.tree_util.tree_map_with_path(
        lambda p, x: (
            np.concatenate([[np.float32(value)], np.ravel(x)[1:]]).reshape(np.shape(x))
            if p == path
            else x
        ),
        params,
    )


@pytest.mark.parametrize("model", MODELS)
def test_extreme_log_scales_are_seen_wherever_they_are(watched, model):
    params = watched()[1][model]
    paths = paths_to(params, LOG_SCALES)
    names = {path[-1].key for path in paths}
    assert names == LOG_SCALES
    for path in paths:
        factor = 3 if path[-1].key == "scale" else 1
        for extreme in (-20.0, 20.0):
            found = log_scale_range(with_first_entry(params, path, extreme))
            side = "log_scale_min" if extreme < 0 else "log_scale_max"
            assert found[side].value == factor * extreme


def with_diagonal_entry(params, path, value):
    """The parameters with log|s| of the first channel changed in every step of a level."""
    return jax.tree_util.tree_map_with_path(
        lambda p, x: jnp.asarray(x).at[..., 0, 0].set(value) if p == path else x, params
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_nearly_singular_weight_is_seen_in_every_level_and_warned_of(watched, model):
    watch, params = watched(levels=2)
    paths = paths_to(params[model], {"lower_upper"})
    assert len(paths) == 2  # levels
    for path in paths:
        bad = params | {model: with_diagonal_entry(params[model], path, np.log(1e-6))}
        report = watch(bad)
        assert report[model]["smallest_s"].value == pytest.approx(1e-6, rel=1e-3)
        assert report[model]["condition"].value > 1e5
        warnings = stability.warnings(report)
        assert {f"{model}/smallest_s", f"{model}/condition"} <= set(warnings)
        assert all(name.startswith(model) for name in warnings)
        assert f"of the {model} is 1e-06 and should be" in warnings[f"{model}/smallest_s"]


@pytest.mark.parametrize("model", MODELS)
def test_the_round_trip_shows_what_is_lost(watched, model):
    watch, params = watched()
    for path in paths_to(params[model], {"lower_upper"}):
        params[model] = with_diagonal_entry(params[model], path, np.log(1e-12))
    report = watch(params)
    assert not report[model]["round_trip_error"].value < 1e-3
    assert f"{model}/round_trip_error" in stability.warnings(report)


def test_non_finite_values_are_warned_of(watched):
    watch, params = watched()
    params["tail"] = jax.tree.map(lambda x: x * jnp.nan, params["tail"])
    scales = {
        f"{context}log_scale_{side}" for context in ("", "context_") for side in ("min", "max")
    }
    expected = scales | {"smallest_s", "condition", "round_trip_error"}
    assert set(stability.warnings(watch(params))) == {f"tail/{name}" for name in expected}


def test_limits_are_where_they_are_said_to_be(watched):
    watch, params = watched()
    report = {"head": watch(params)["head"]}
    edges = {"log_scale_min": -7.0, "log_scale_max": 7.0, "smallest_s": 1e-3, "condition": 1e4}
    edges |= {"round_trip_error": 0.1 / 32}
    beyond = {"log_scale_min": -7.1, "log_scale_max": 7.1, "smallest_s": 9e-4, "condition": 1.1e4}
    beyond |= {"round_trip_error": 0.11 / 32}

    def warned(values):
        changed = {name: report["head"][name]._replace(value=v) for name, v in values.items()}
        return set(stability.warnings({"head": report["head"] | changed}))

    assert set(edges) == set(report["head"]) - {"context_log_scale_min", "context_log_scale_max"}
    assert warned(edges) == set()
    for name, value in beyond.items():
        assert warned(edges | {name: value}) == {f"head/{name}"}
