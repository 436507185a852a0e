"""The fingerprint of a dataset, and runs that refuse to resume on examples of another one."""

import json
import shutil
from pathlib import Path

import pytest
from footage import load, touch, write_clip, write_image

from data_builders.generated_builder import GeneratedConfig
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from flowvid.config import config_file, making
from flowvid.errors import ConfigError
from flowvid.training import loop

pytest_plugins = ["system_fixtures", "footage"]


# Fingerprints.


def fingerprint(path: str | Path, data_dir: Path | None, split: str = "train", **wanted) -> str:
    return load(path, split, data_dir, **wanted).fingerprint


def generated(folder: Path, **num_clips: int) -> Path:
    """Records of moving_shapes at 8x8, of 4 frames, under a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moving_shapes.Builder, "NUM_CLIPS", num_clips)
        config = GeneratedConfig(name="8x8_4f", image_size=8, num_frames=4)
        moving_shapes.Builder(data_dir=folder, config=config).download_and_prepare()
    return folder / "moving_shapes"


def test_it_is_short_and_the_same_wherever_the_records_are(tmp_path):
    here = generated(tmp_path / "here", train=4, validation=2)
    again = generated(tmp_path / "again", train=4, validation=2)
    moved = shutil.copytree(here, tmp_path / "moved")
    assert fingerprint(here, None) == fingerprint(again, None) == fingerprint(moved, None)
    assert len(fingerprint(here, None)) == 16
    int(fingerprint(here, None), 16)


def test_it_tells_splits_lengths_and_versions_apart(tmp_path):
    here = generated(tmp_path / "here", train=4, validation=4)
    more = generated(tmp_path / "more", train=5, validation=4)
    assert fingerprint(here, None) != fingerprint(more, None)
    assert fingerprint(here, None) != fingerprint(here, None, "validation")
    info = here / "8x8_4f/1.1.0/dataset_info.json"
    before = fingerprint(here, None)
    info.write_text(json.dumps(json.loads(info.read_text()) | {"version": "1.2.0"}))
    assert fingerprint(here, None) != before


def test_it_tells_clips_of_other_names_apart(tmp_path, monkeypatch):
    """Such records have the same numbers of clips and bytes."""
    here = generated(tmp_path / "here", train=4, validation=2)
    examples = moving_shapes.Builder._generate_examples

    def renamed(self, split):
        for index, example in examples(self, split):
            yield index, example | {"id": example["id"].replace("train", "niart")}

    monkeypatch.setattr(moving_shapes.Builder, "_generate_examples", renamed)
    other = generated(tmp_path / "other", train=4, validation=2)
    assert fingerprint(here, None) != fingerprint(other, None)
    assert fingerprint(here, None, "validation") == fingerprint(other, None, "validation")


def test_a_changed_file_changes_it(clips, tmp_path, in_process):
    data_dir = tmp_path / "data"
    before = fingerprint(clips, data_dir)
    touch(clips, "run/note.txt")
    assert fingerprint(clips, data_dir) == before
    other_place = fingerprint(clips, tmp_path / "other place")
    assert other_place == before
    write_clip(clips / "run/a.mkv", 91)  # as many examples and bytes
    assert fingerprint(clips, data_dir) != before


# Runs.


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of twelve images with two labels."""
    for index in range(12):
        write_image(tmp_path / "images" / "ab"[index % 2] / f"{index}.png", 20 * index)
    return tmp_path / "images"


@pytest.fixture
def resume(images, tiny, tmp_path, in_process):
    """A function that trains a run on the images for one step, and resumes it for another."""

    def train(num_steps: int = 2, **changes) -> object:
        wanted = {"dataset": str(images), "data_dir": str(tmp_path / "data"), "num_frames": 1}
        wanted |= {"num_steps": num_steps, "tail_frames": None, "variant": "prev_frame"}
        return loop.train(tiny(**wanted | changes), tmp_path / "run")

    train(1)
    return train


def test_a_run_resumes_on_the_same_files(resume, tmp_path):
    saved = config_file.read(tmp_path / "run")[0]
    assert len(saved.dataset_fingerprint) == 16
    shutil.move(tmp_path / "data", tmp_path / "moved")
    assert int(resume(data_dir=str(tmp_path / "moved")).step) == 2
    assert int(resume(3, data_dir=str(tmp_path / "prepared again")).step) == 3


@pytest.mark.parametrize("lost", [False, True], ids=["", "config.json is lost"])
def test_a_run_is_not_resumed_on_changed_files(resume, images, tmp_path, lost):
    write_image(images / "a/0.png", 255)
    before = (tmp_path / "run/config.json").read_bytes()
    if lost:  # then the configuration of the checkpoint is compared
        (tmp_path / "run/config.json").unlink()
    with pytest.raises(ConfigError) as raised:
        resume()
    assert str(raised.value) == (
        f"the files of {images} have changed since the run in {tmp_path}/run began (so the order "
        "of examples would change): use another --workdir, or restore the files."
    )
    assert (tmp_path / "run/config.json").exists() != lost
    if not lost:
        assert (tmp_path / "run/config.json").read_bytes() == before


def test_other_labels_are_named_first(resume, images):
    write_image(images / "c/12.png", 255)
    with pytest.raises(ConfigError, match=r"trained on 2 labels \(a, b, \.\.\.\), but .* has 3"):
        resume()


def test_another_dataset_or_size_is_refused_by_its_field_alone(resume, images, tmp_path):
    other = shutil.copytree(images, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"configuration: dataset \(\S+ there, \S+ here\)\. Use"):
        resume(dataset=str(other))
    with pytest.raises(ConfigError, match=r"configuration: image_size \(16 there, 8 here\)\. Use"):
        resume(image_size=8)


def test_a_run_without_a_fingerprint_resumes_and_gets_one(resume, tmp_path):
    path = tmp_path / "run/config.json"
    saved = json.loads(path.read_text())
    fingerprint = saved.pop("dataset_fingerprint")
    path.write_text(json.dumps(saved))
    assert config_file.read(tmp_path / "run")[0].dataset_fingerprint == ""
    assert int(resume().step) == 2
    assert config_file.read(tmp_path / "run")[0].dataset_fingerprint == fingerprint


def test_the_fingerprint_is_that_of_the_training_examples(tiny, data_dir):
    config, train, validation = loop.prepare(tiny())
    assert config.dataset_fingerprint == train.fingerprint != validation.fingerprint
    assert making.preset_config("paper_small").dataset_fingerprint == ""
