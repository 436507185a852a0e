"""Training on a folder of one's own clips."""

import json

import numpy as np

from flowvid.data import media
from flowvid.training import loop

pytest_plugins = ["system_fixtures"]


def test_two_steps_on_a_folder_of_clips(tiny, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(6):
        video = rng.integers(0, 256, (6, 24, 32, 3), np.uint8)
        media.write_video(tmp_path / "clips" / "ab"[index % 2] / f"{index}.mp4", video, scale=1)
    config = tiny(
        dataset=str(tmp_path / "clips"), data_dir=str(tmp_path), variant="prev_frame", num_steps=2
    )
    state = loop.train(config, tmp_path / "run")
    assert (int(state.step), int(state.head.skipped), int(state.tail.skipped)) == (2, 0, 0)
    assert json.loads((tmp_path / "run/config.json").read_text())["label_names"] == ["a", "b"]
