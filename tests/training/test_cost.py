"""The arithmetic of a training step, counted by hand, and the warning made of it."""

import pytest

from flowvid.config.making import preset_config
from flowvid.training import cost


def test_counts_every_product_of_a_tiny_model():
    config = preset_config(
        "paper_small", variant="state", levels=1, head_steps=2, tail_steps=3, width=5, state_size=4,
        image_size=8, num_frames=7, batch_size=2, tail_frames=None,
    )  # fmt: skip
    pixels = 4 * 4  # after the squeeze, with 12 channels: 6 are read, 6 are shifted
    head_weights = 9 * 6 * 5 + 5 * 5 + 9 * 5 * 6
    tail_weights = 9 * (6 + 4 * (3 + 4)) * 5 + 5 * 5 + 9 * 5 * 6  # the frame and state, squeezed
    gflop = cost.step_gflop(config)
    assert gflop["head"] == pytest.approx(3 * 2 * pixels * 2 * 2 * head_weights / 1e9)
    assert gflop["tail"] == pytest.approx(3 * 2 * 6 * pixels * 2 * 3 * tail_weights / 1e9)


def test_drawn_frames_affine_coupling_and_labels_are_counted():
    base = {"levels": 2, "image_size": 8, "num_frames": 7}
    gflop = {
        name: cost.step_gflop(preset_config("paper_small", **base, **changes))
        for name, changes in {
            "two drawn": {"tail_frames": 2},
            "all": {"tail_frames": None},
            "affine": {"tail_frames": None, "coupling": "affine"},
            "labels": {"tail_frames": None, "variant": "state_label"},
        }.items()
    }
    assert gflop["all"]["tail"] == pytest.approx(3 * gflop["two drawn"]["tail"])
    assert gflop["affine"]["head"] > gflop["all"]["head"]
    assert gflop["labels"]["head"] > gflop["all"]["head"]


def test_the_matrix_product_speed_is_that_of_a_processor():
    assert 0.01 < cost.matmul_gflops(n=64, repeats=2) < 1e6
