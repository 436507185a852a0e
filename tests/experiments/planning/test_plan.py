"""The plan of a run: arithmetic by hand, what it refuses, what the command prints and writes."""

import itertools
import json
import subprocess
import sys

import pytest

from experiments.planning import cards, checking, choices, estimate, full_plan, here, step_work
from experiments.planning.estimate import Assumptions, Scale
from experiments.planning.program import Work
from flowvid.config.making import preset_config
from flowvid.errors import ConfigError

CARD = cards.Card(
    name="card", product_flop=100.0, low_product_flop=200.0, medium=0.5, narrow=0.25,
    elementwise=10.0, windows=4.0, transcendental=5.0, traffic=20.0, link=8.0,
    memory_gb=1e-6, kernel_s=0.5, source="a test",
)  # fmt: skip
ASSUMED = Assumptions(
    efficiency=0.5, devices_per_host=4, network=2.0, disk=10.0, loader=600.0, price_per_hour=3.0
)
SCALE = Scale(devices=8, clips=100, validation_clips=10, batch_size=16, num_steps=36)
TINY = {
    "preset": "paper_small", "variant": "state", "levels": 1, "head_steps": 1, "tail_steps": 1,
    "width": 8, "state_size": 4, "image_size": 8, "num_frames": 3, "tail_frames": 1,
    "batch_size": 4,
}  # fmt: skip


def test_the_parts_of_a_step_take_their_seconds():
    work = Work(
        product_flop=50, low_product_flop=100, elementwise=20, transcendental=10, windows=6,
        traffic=60, kernels=4,
    )  # fmt: skip
    seconds = estimate.step_seconds(work, CARD, 0.5)
    assert seconds == {
        "products": (50 / 100 + 100 / 200) / 0.5,
        "elementwise": 20 / 10 + 10 / 5,
        "windows": 6 / 4,
        "traffic": 60 / 20,
        "kernels": 4 * 0.5,
    }


def test_small_products_are_slower():
    one = estimate.step_seconds(Work(product_flop=100), CARD, 1)["products"]
    medium = estimate.step_seconds(Work(product_flop=100, medium_flop=50), CARD, 1)["products"]
    narrow = estimate.step_seconds(Work(product_flop=100, narrow_flop=50), CARD, 1)["products"]
    assert (one, medium, narrow) == (1.0, 1.5, 2.5)
    assert estimate.step_seconds(Work(), CARD, 1)["products"] == 0


def test_gradients_go_round_a_ring_over_its_slowest_link():
    assert estimate.all_reduce_seconds(16.0, 1, CARD, ASSUMED) == 0
    assert estimate.all_reduce_seconds(16.0, 4, CARD, ASSUMED) == 2 * 3 / 4 * 16 / 8
    assert estimate.all_reduce_seconds(16.0, 8, CARD, ASSUMED) == 2 * 7 / 8 * 16 / 2
    fast = ASSUMED._replace(network=1e9)
    assert estimate.all_reduce_seconds(16.0, 8, CARD, fast) == 2 * 7 / 8 * 16 / 8


def test_a_pass_and_a_run_take_hours_and_cost_a_price():
    found = estimate.training(200.0, SCALE, ASSUMED)
    assert (found["pass_steps"], found["run_steps"]) == (6, 36)
    assert found["run_hours"] == 2 and found["run_device_hours"] == 16 and found["run_price"] == 48
    assert found["pass_hours"] == pytest.approx(1 / 3)
    free = estimate.training(200.0, SCALE._replace(num_steps=None), ASSUMED._replace(
        price_per_hour=None))  # fmt: skip
    assert free["run_steps"] == 6 and "run_price" not in free


def test_the_loader_must_keep_up_and_holds_its_queue():
    found = estimate.loader(2.0, 100.0, SCALE, ASSUMED)
    assert found["hosts"] == 2 and found["records_needed_per_s"] == 8
    assert found["records_needed_per_s_and_host"] == 4
    assert found["records_delivered_per_s_and_host"] == 6
    # Each host has 8 clips of a batch: 16 in the queue, 8 read and 8 stacked.
    assert found["host_memory_gb"] == pytest.approx(100 * 32e-9)
    assert estimate.dataset(100.0, SCALE)["training_gb"] == pytest.approx(1e-5)


BYTES = {
    "head": {"parameters": 100, "average": 100, "optimiser": 200},
    "tail": {"parameters": 50, "average": 50, "optimiser": 100},
}


def test_a_checkpoint_holds_all_states_and_takes_its_time():
    found = estimate.checkpoint(BYTES, 6, 10.0, ASSUMED)
    assert found["parameters_gb"] == pytest.approx(150e-9)
    assert found["total_gb"] == pytest.approx(600e-9)
    assert found["write_s"] == pytest.approx(60)
    assert found["write_share_if_waited_for"] == pytest.approx(0.5)


def test_a_device_holds_states_batches_and_the_larger_step():
    found = estimate.device_memory(BYTES, {"head": 10.0, "tail": 80.0}, 20.0, CARD)
    assert found["total_gb"] == pytest.approx((600 + 60 + 130) * 1e-9)
    assert found["fits"]
    assert not estimate.device_memory(BYTES, {"head": 1e4}, 20.0, CARD)["fits"]


def test_scoring_takes_a_third_of_training_on_each_frame():
    # A step of 30 s models a tenth of the frames of 16 clips; scoring 32 clips is 2 batches.
    assert estimate.evaluation_seconds({"tail": 30.0}, {"tail": 0.1}, SCALE, 32) == 200


def test_a_third_of_the_drawn_frames_and_of_the_window_is_modelled():
    config = preset_config(**TINY | {"num_frames": 4})
    assert step_work.clip_share(config, "tail") == pytest.approx(1 / 3)
    assert step_work.clip_share(config, "head") == 1
    footage = preset_config("footage_small")
    assert step_work.clip_share(footage, "tail") == pytest.approx(2 / 29 / 4)


def test_states_are_those_that_are_saved():
    bytes_of = step_work.state_bytes(preset_config(**TINY, ema_decay=0.9))["tail"]
    assert bytes_of["average"] == bytes_of["parameters"] > 0
    assert 1.9 < bytes_of["optimiser"] / bytes_of["parameters"] < 2.1  # Adam's two moments


@pytest.mark.parametrize("videos", [1, 8, 64])
def test_the_longest_of_the_drawn_loops_counts(videos):
    trips = step_work.expected_trips(videos)
    assert trips == pytest.approx({1: 3, 8: 4.815, 64: 5}[videos], abs=2e-3)


def test_an_unknown_card_is_refused_in_one_line_that_lists_the_known():
    assert cards.find("rtx 4090").name == "RTX_4090"
    with pytest.raises(ConfigError) as error:
        cards.find("H20")
    message = str(error.value)
    assert "\n" not in message and "--device=H20 is unknown" in message
    assert all(name in message for name in [*cards.CARDS, cards.HERE])


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ConfigError, match="--variant=init is not trained"):
        choices.config_of({"preset": "paper", "variant": "init"})
    images = preset_config("paper_small", num_frames=1)
    with pytest.raises(ConfigError, match="--models=tail: use some of head"):
        choices.models_of(["tail"], images)
    assert choices.models_of(["head"], images) == ["head"]
    with pytest.raises(ConfigError, match="--batch_size=4 is not divisible by --devices=3"):
        full_plan.make(preset_config(**TINY), CARD, SCALE._replace(devices=3), ASSUMED)


@pytest.fixture(scope="module")
def plans():
    """Plans of a tiny run on one, two and four devices."""
    config = preset_config(**TINY)
    card = cards.find("A100")
    assumed = ASSUMED._replace(network=1e9, disk=1e9, loader=1e6)
    scale = Scale(1, 1000, 100, config.batch_size, config.num_steps)
    return [full_plan.make(config, card, scale._replace(devices=n), assumed) for n in (1, 2, 4)]


def test_more_devices_take_less_time_and_memory_each(plans):
    for fewer, more in itertools.pairwise(plans):
        for part in ("products", "traffic"):
            assert more["steps"]["tail"]["seconds"][part] < fewer["steps"]["tail"]["seconds"][part]
        reduced = (p["steps"]["tail"]["seconds"]["all_reduce"] for p in (fewer, more))
        assert next(reduced) < next(reduced)
        assert more["device_memory"]["total_gb"] < fewer["device_memory"]["total_gb"]
        totals = (p["steps"]["tail"]["gflop"]["total"] for p in (fewer, more))
        assert next(totals) == pytest.approx(next(totals), rel=0.01)


def test_without_an_average_none_is_saved(plans):
    saved = plans[0]["checkpoint"]
    assert saved["average_gb"] == 0 and saved["total_gb"] > 2 * saved["parameters_gb"] > 0


def test_the_flow_the_encoder_and_the_rest_are_all_arithmetic(plans):
    gflop = plans[0]["steps"]["tail"]["gflop"]
    assert gflop["total"] == pytest.approx(gflop["flow"] + gflop["encoder"] + gflop["other"])
    assert 0 < gflop["flow"] < gflop["total"] and gflop["encoder"] > 0 and gflop["other"] > 0
    of_head = plans[0]["steps"]["head"]["gflop"]
    assert of_head["encoder"] == 0
    assert of_head["flow"] == pytest.approx(of_head["total"], rel=0.3)


def test_what_is_computed_again_is_counted():
    stored, reversible = (
        step_work.work(preset_config(**TINY, backprop=mode), "tail", 1, "cuda").product_flop
        for mode in ("stored", "reversible")
    )
    assert reversible > 1.1 * stored


def test_the_command_prints_and_writes_a_plan(tmp_path):
    out = tmp_path / "plan.json"
    given = [f"--{name}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-m", "experiments.plan", *given, f"--out={out}", "--device=h200"]
    command += ["--devices=2", "--clips=4000", "--price_per_hour=2", "--compile"]
    command += ["--kernel_us=2", "--efficiency=0.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    plan = json.loads(out.read_text(encoding="utf-8"))
    assert done.stdout == full_plan.text(plan) + "\n"
    assert plan["device"]["name"] == "H200" and plan["memory_analysis"] == "XLA"
    assert set(plan["steps"]) == {"head", "tail"}
    training = plan["training"]
    assert (training["pass_steps"], training["run_steps"]) == (1000, 2000)
    assert training["run_price"] == pytest.approx(2 * 2 * training["run_hours"])
    assert plan["step_s"] == pytest.approx(sum(s["total_s"] for s in plan["steps"].values()))
    assert plan["device"]["kernel_s"] == pytest.approx(2e-6)
    assert "0.5 of the peak" in done.stdout and "every 2 us" in done.stdout


def test_cards_reach_a_share_of_their_peak_and_measured_rates_are_reached():
    assert choices.efficiency(None, "H100") == choices.EFFICIENCY
    assert choices.efficiency(None, cards.HERE) == 1
    assert choices.efficiency(0.3, cards.HERE) == 0.3


def test_this_machine_is_one_core_of_measured_rates(monkeypatch):
    names = ("product_flop", "traffic", "windows", "elementwise", "transcendental")
    rates = dict.fromkeys(names, 8.0) | {"medium_flop": 4.0, "narrow_flop": 2.0}
    monkeypatch.setattr(here, "call", lambda function, arguments, cores: rates)
    core = here.core()
    assert (core.name, core.product_flop, core.medium, core.narrow) == (cards.HERE, 8, 0.5, 0.25)
    assert core.memory_gb > 0.1 and core.kernel_s == 0
    monkeypatch.setattr(here, "call", lambda function, arguments: {"videos_per_s": 10.0})
    assert here.loader_bytes_per_second(TINY) == 10 * 3 * 8 * 8 * 3


def test_a_check_predicts_and_measures_in_turns():
    changes = TINY | {"num_labels": 3}
    result = checking.check(changes, ["head"], rounds=2, efficiency=1.0)
    (row,) = result["rows"]
    assert len(row["ratio"]) == len(row["measured_s"]) == 2
    assert all(0 < ratio < 100 for ratio in row["ratio"])
    assert all(rate > 0 for rate in row["rates"].values())
    shown = checking.text(result).splitlines()[-1]
    assert shown.startswith("| head |") and " to " in shown
