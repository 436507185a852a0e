"""Training: every variant runs, resumes with the same bits, and skips non-finite steps."""

import math
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import PAPERS_VARIANTS, assert_same, events, saved

import flowvid
from flowvid.config import config_file
from flowvid.data import datasets
from flowvid.errors import ConfigError
from flowvid.parallel.devices import replicate, shard, unreplicate
from flowvid.training import loop, steps, train_state, trainer
from flowvid.training.checkpoints import reading
from flowvid.training.progress import Reporter
from flowvid.training.train_state import is_constant
from flowvid.video.frames import Batch

pytest_plugins = ["system_fixtures"]
pytestmark = pytest.mark.usefixtures("compiled_once")

TRAINED = [name for name, variant in PAPERS_VARIANTS.items() if variant.trains]
TAGS = {
    "bits_per_dim_5-bit", "log_det_per_dim", "log_prior_per_dim", "frame_mean", "frame_mean_square",
    "gradient_norm", "gradient_norm/flow", "skipped", "skipped_in_a_row", "clipped_share",
}  # fmt: skip
STABILITY = {"log_scale_min", "log_scale_max", "smallest_s", "condition", "round_trip_error"}
PARTS = {
    "prev_frame": {"tail/gradient_norm/pyramid"},
    "state": {"tail/gradient_norm/pyramid", "tail/gradient_norm/processor"},
    "state_label": {
        "tail/gradient_norm/pyramid", "tail/gradient_norm/processor",
        "head/gradient_norm/pyramid", "head/gradient_norm/labels",
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", TRAINED)
def test_a_run_reports_all_it_promises(run_of, variant):
    scalars = events(run_of(variant))
    training_tags = {f"{model}/{tag}" for model in ("head", "tail") for tag in TAGS}
    validation = {f"validation/{model}/bits_per_dim_5-bit" for model in ("head", "tail")}
    validation |= {f"stability/{model}/{tag}" for model in ("head", "tail") for tag in STABILITY}
    if variant != "prev_frame":  # of the context processor's ActNorm
        validation |= {f"stability/tail/context_log_scale_{which}" for which in ("min", "max")}
    assert set(scalars) == training_tags | PARTS[variant] | validation
    for tag, values in scalars.items():
        assert sorted(values) == ([2, 4] if tag in validation else [1, 2, 3, 4]), tag
        assert all(math.isfinite(value) for value in values.values()), tag
    for model in ("head", "tail"):
        # The loss is the sum of its two terms: bits = 5 - (log-det + log-prior) / (D log 2).
        nats = scalars[f"{model}/log_det_per_dim"][3] + scalars[f"{model}/log_prior_per_dim"][3]
        expected = 5 - nats / math.log(2)
        assert scalars[f"{model}/bits_per_dim_5-bit"][3] == pytest.approx(expected, rel=1e-5)
        assert set(scalars[f"{model}/skipped"].values()) == {0.0}
        parts = [v[3] for tag, v in scalars.items() if tag.startswith(f"{model}/gradient_norm/")]
        assert scalars[f"{model}/gradient_norm"][3] == pytest.approx(math.hypot(*parts), rel=1e-5)
        assert -0.5 < scalars[f"{model}/frame_mean"][3] < 0.5
    assert not (run_of(variant) / "incidents").exists()


@pytest.mark.parametrize("variant", TRAINED)
def test_training_moves_all_but_the_constants(run_of, variant):
    before, after = saved(run_of(variant), 0), saved(run_of(variant), 4)
    assert (int(after.step), int(after.examples)) == (4, 16)
    for old, new in ((before.head, after.head), (before.tail, after.tail)):
        assert int(new.step) == 4
        assert int(new.skipped) == 0
        leaves = jax.tree_util.tree_leaves_with_path(old.params)
        for (path, a), b in zip(leaves, jax.tree.leaves(new.params), strict=True):
            assert np.array_equal(a, b) == is_constant(path), jax.tree_util.keystr(path)


def test_the_variant_decides_what_there_is_to_train(run_of):
    parts = {
        variant: (set(run.head.params["context"]), set(run.tail.params["context"]))
        for variant, run in ((v, saved(run_of(v), 0)) for v in PAPERS_VARIANTS)
    }
    assert parts == {
        "init": (set(), set()),
        "prev_frame": (set(), {"pyramid"}),
        "state": (set(), {"pyramid", "processor"}),
        "state_label": ({"pyramid", "labels"}, {"pyramid", "processor"}),
    }


def test_init_trains_nothing_and_saves_step_0(run_of):
    workdir = run_of("init")
    assert reading.saved_steps(workdir) == [0]
    run = saved(workdir, 0)
    assert int(run.head.step) == int(run.tail.step) == int(run.examples) == 0
    for params in (run.head.params, run.tail.params):
        leaves = jax.tree_util.tree_leaves_with_path(params)
        actnorm = [leaf for path, leaf in leaves if path[-1].key in ("shift", "log_scale")]
        assert len(actnorm) == 2  # of one level
        assert not any(leaf.any() for leaf in actnorm)


def test_one_pass_is_the_default(tiny):
    config, dataset, validation = loop.prepare(tiny(num_steps=None))
    assert (len(dataset), len(validation)) == (12, 5)
    assert (config.num_steps, config.num_labels) == (3, 8)
    assert loop.prepare(tiny(num_steps=None, batch_size=16))[0].num_steps == 1


def test_a_resumed_run_ends_with_the_same_bits(tiny, tmp_path, capsys):
    """The run makes three passes over the data, and is stopped in the second one."""
    make = lambda n: tiny(variant="state_label", num_steps=n, checkpoint_every=4, eval_every=100)  # noqa: E731
    unbroken = loop.train(make(7), tmp_path / "unbroken")
    loop.train(make(5), tmp_path / "broken")
    assert "Resuming" not in capsys.readouterr().out
    resumed = loop.train(make(7), tmp_path / "broken")
    assert f"Resuming from step 5 of {tmp_path / 'broken'}." in capsys.readouterr().out
    assert int(resumed.step) == 7
    assert_same(resumed, unbroken)
    assert_same(saved(tmp_path / "broken", 7), saved(tmp_path / "unbroken", 7))


def test_a_run_resumes_without_its_config_file(tiny, run_of, tmp_path):
    """The checkpoints hold the configuration, too."""
    shutil.copytree(run_of("state"), tmp_path, dirs_exist_ok=True)
    lost = tmp_path / "config.json"
    text = lost.read_text()
    lost.unlink()
    assert flowvid.load(tmp_path).step == 4
    assert int(loop.train(tiny(variant="state"), tmp_path).step) == 4
    assert lost.read_text() == text


def test_a_finished_run_has_nothing_left_to_do(tiny, run_of):
    workdir = run_of("state")
    again = loop.train(tiny(variant="state"), workdir)
    assert_same(again, saved(workdir, 4))


def test_devices_must_share_the_batch_evenly(tiny, tmp_path):
    with pytest.raises(ConfigError, match="--batch_size=3 is not divisible by 2 devices"):
        loop.train(tiny(batch_size=3), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Non-finite steps.


def poisoned_step(tiny, poison):
    """Returns the head's state before and after a step from parameters changed by `poison`."""
    config, dataset, _ = loop.prepare(tiny(variant="prev_frame"))
    run = trainer.initial_state(config, dataset)
    state = run.head._replace(params=poison(run.head.params))
    batch = next(datasets.train_batches(dataset, batch_size=4, seed=0))
    shards = shard(Batch(batch["video"], batch["label"], batch["index"]))
    after, metrics = trainer.train_steps(config)["head"](replicate(state), shards)
    return state, unreplicate(after), unreplicate(metrics)


def test_a_run_keeps_the_labels_that_it_was_trained_on(tiny, run_of, tmp_path):
    run = run_of("state_label")
    config, names = config_file.read(run)
    config_file.write(config, (*names[:-1], "another"), tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ConfigError, match=r"trained on 8 labels .* use the dataset that the run"):
        loop.train(tiny(variant="state_label"), tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("wanted", [True, False])
def test_a_state_changes_where_wanted(wanted):
    kept = jnp.arange(3.0), {"count": jnp.int32(1)}
    new = kept[0] + np.float32(np.nan), {"count": jnp.int32(2)}
    chosen = jax.jit(lambda wanted: steps.changed_if(wanted, lambda: new, kept))(wanted)
    assert_same(chosen, new if wanted else kept)


@pytest.mark.parametrize("limit", [1e-3, 3.0, 1e3])
def test_gradients_are_clipped_by_their_global_norm(limit):
    keys = jax.random.split(jax.random.key(0), 2)
    gradients = [jax.random.normal(key, (4, 5)) for key in keys]  # norm about 6
    clipped, expected = (
        clip.update(gradients, clip.init(gradients))[0]
        for clip in (train_state.clip_by_global_norm(limit), optax.clip_by_global_norm(limit))
    )
    for ours, theirs in zip(clipped, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(("value", "skipped"), [(np.inf, 1), (np.nan, 1), (0.5, 0)])
def test_a_non_finite_step_changes_nothing_and_is_counted(tiny, value, skipped):
    def poison(params):
        last = params["flow"]["last_prior"]
        bad = last | {"mean": last["mean"] + np.float32(value)}
        return params | {"flow": params["flow"] | {"last_prior": bad}}

    before, after, metrics = poisoned_step(tiny, poison)
    assert int(after.step) == 1
    assert int(after.skipped) == int(metrics["skipped"]) == skipped
    if skipped:
        assert_same((after.params, after.opt_state), (before.params, before.opt_state))
    else:
        assert not np.array_equal(
            after.params["flow"]["last_prior"]["mean"], before.params["flow"]["last_prior"]["mean"]
        )


def test_the_share_of_clipped_steps_is_logged_and_warned_of_once(tiny, tmp_path, caplog):
    config = tiny(
        variant="prev_frame", num_steps=30, log_every=10, eval_every=100, checkpoint_every=100,
        head_clip=1e9, tail_clip=1e-6,
    )  # fmt: skip
    run = loop.train(config, tmp_path)
    assert (int(run.head.clipped), int(run.tail.clipped)) == (0, 30)
    scalars = events(tmp_path)
    assert scalars["head/clipped_share"] == {1: 0.0, 10: 0.0, 20: 0.0, 30: 0.0}
    assert scalars["tail/clipped_share"] == {1: 1.0, 10: 1.0, 20: 1.0, 30: 1.0}
    warned = [r.getMessage() for r in caplog.records if "was clipped" in r.getMessage()]
    assert len(warned) == 1
    assert "At step 20, the tail's gradient was clipped in 100% of the last 10 steps" in warned[0]
    assert "a larger --tail_clip" in warned[0]


def test_a_non_finite_validation_is_logged_and_does_not_stop(tiny, tmp_path, caplog):
    config, dataset, validation = loop.prepare(tiny(variant="prev_frame"))
    run = trainer.initial_state(config, dataset)
    nan = jax.tree.map(lambda x: np.full_like(x, np.nan), run.head.params)
    run = run._replace(head=run.head._replace(params=nan), step=np.int64(2))
    reporter = Reporter(config, tmp_path, run)
    try:
        validate = loop.Validation(config, validation)
        assert math.isnan(validate(trainer.Trainer(config, run), reporter, lambda: False))
    finally:
        reporter.close()
    assert "The head's validation is non-finite at step 2." in caplog.text
    assert "tail's" not in caplog.text
    scalars = events(tmp_path)
    assert jnp.isnan(scalars["validation/head/bits_per_dim_5-bit"][2])
    assert scalars["validation/tail/bits_per_dim_5-bit"][2] > 0
