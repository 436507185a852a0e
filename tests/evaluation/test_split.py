"""The split that `flowvid.evaluate` reports on, and its warning about a checkpoint chosen on it."""

import json

import pytest
from footage import write_image

from flowvid.training import loop

pytest_plugins = ["system_fixtures", "command_line", "footage"]

WARNING = "--checkpoint=best was chosen on the same split"
SIZES = {"train": 8, "validation": 2, "test": 3}


@pytest.fixture
def trained(tiny, tmp_path, in_process):
    """A function that trains on a folder of images with these splits and returns the workdir."""

    def train(*splits):
        for split in splits:
            for index in range(SIZES[split]):
                write_image(tmp_path / "images" / split / f"{index}.png", 30 * index)
        images = {"dataset": str(tmp_path / "images"), "data_dir": str(tmp_path / "data")}
        config = tiny(**images, num_frames=1, tail_frames=None, variant="prev_frame", num_steps=2)
        loop.train(config, tmp_path / "run")
        return tmp_path / "run"

    return train


@pytest.fixture
def evaluate(call, caplog):
    """A function that evaluates a run: the report and what was logged."""

    def run(workdir, *args):
        caplog.clear()
        code, _, err = call(
            "evaluate", f"--workdir={workdir}", "--metrics=5-bit", "--noise_draws=1", *args
        )
        assert code == 0, err
        (path,) = workdir.glob("evaluation*.json")
        return json.loads(path.read_text()), caplog.text

    return run


def test_the_best_checkpoint_is_evaluated_on_the_test_split(trained, evaluate):
    workdir = trained("train", "validation", "test")
    for args, split, warns in (
        ((), "validation", False),
        (("--checkpoint=best",), "test", False),
        (("--split=test",), "test", False),
        (("--checkpoint=best", "--split=validation"), "validation", True),
    ):
        report, log = evaluate(workdir, *args)
        assert (report["split"], report["num_videos"]) == (split, SIZES[split]), args
        assert (WARNING in log) == warns, args


def test_without_a_test_split_the_choice_is_warned_of(trained, evaluate, call):
    workdir = trained("train", "validation")
    report, log = evaluate(workdir, "--checkpoint=best")
    assert (report["split"], report["num_videos"]) == ("validation", 2)
    assert WARNING in log
    code, _, err = call("evaluate", f"--workdir={workdir}", "--split=test")
    assert code == 1
    assert "no examples in split 'test'; it has 8 in 'train', 2 in 'validation'" in err
