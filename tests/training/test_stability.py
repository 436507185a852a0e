"""The stability watch: it sees extremes wherever they are, and warns before a model breaks."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flowvid.data import datasets
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
        assert 0 < values["round_trip_error"] < 1e-4
        assert values["condition"] == pytest.approx(1, abs=1e-3)  # rotations
        assert values["log_scale_min"] <= 0 < values["log_scale_max"]
    assert watch.warnings(report) == {}


def test_a_head_alone_is_watched_alone(watched):
    watch, params = watched("prev_frame", num_frames=1, tail_frames=None)
    assert set(watch(params)) == {"head"}


def test_the_condition_is_the_ratio_of_singular_values():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    harmless, stretched = rotation, rotation @ np.diag([8.0, 2.0, 0.5])
    assert stability.condition(np.stack([harmless, stretched])) == pytest.approx(16)
    assert stability.condition(np.full((3, 3), np.nan)) == np.inf


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
            scales = stability._log_scales(with_first_entry(params, path, extreme))
            seen = np.concatenate([scale.reshape(-1) for scale in scales])
            assert (seen.min() if extreme < 0 else seen.max()) == factor * extreme


@pytest.mark.parametrize("model", MODELS)
def test_a_nearly_singular_weight_is_seen_in_every_level_and_warned_of(watched, model):
    watch, params = watched()
    paths = paths_to(params[model], {"log_s"})
    assert len(paths) == 2  # levels
    for path in paths:
        bad = params | {model: with_first_entry(params[model], path, np.log(1e-6))}
        report = watch(bad)
        assert report[model]["smallest_s"] == pytest.approx(1e-6, rel=1e-3)
        assert report[model]["condition"] > 1e5
        warnings = watch.warnings(report)
        assert {f"{model}/smallest_s", f"{model}/condition"} <= set(warnings)
        assert all(what.startswith(model) for what in warnings)
        assert f"of the {model} has an |s| of 1e-06" in warnings[f"{model}/smallest_s"]


@pytest.mark.parametrize("model", MODELS)
def test_the_round_trip_shows_what_is_lost(watched, model):
    watch, params = watched()
    for path in paths_to(params[model], {"log_s"}):
        params[model] = with_first_entry(params[model], path, np.log(1e-12))
    report = watch(params)
    assert not report[model]["round_trip_error"] < 1e-3
    assert f"{model}/round_trip_error" in watch.warnings(report)


def test_what_is_not_finite_is_warned_of(watched):
    watch, params = watched()
    params["tail"] = jax.tree.map(lambda x: x * jnp.nan, params["tail"])
    expected = {"log_scale", "smallest_s", "condition", "round_trip_error"}
    assert set(watch.warnings(watch(params))) == {f"tail/{what}" for what in expected}


def test_limits_are_where_they_are_said_to_be(watched):
    watch, _ = watched()
    good = {"log_scale_min": -7.0, "log_scale_max": 7.0, "smallest_s": 1e-3, "condition": 1e4}
    good |= {"round_trip_error": 0.1 / 32}
    assert watch.warnings({"head": good}) == {}
    past = {"log_scale_min": -7.1, "log_scale_max": 7.1, "smallest_s": 9e-4, "condition": 1.1e4}
    past |= {"round_trip_error": 0.11 / 32}
    for what, value in past.items():
        (name,) = watch.warnings({"head": good | {what: value}})
        assert name.split("/")[1].startswith(what.removesuffix("_min").removesuffix("_max"))
