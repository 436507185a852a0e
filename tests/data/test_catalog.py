"""From a name to records: which are found, which are prepared, and what the errors say."""

import pwd
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import logging
from etils import epath
from PIL import Image
from records import FEW_CLIPS, copy_records, load

from data_builders.moving_digits import moving_digits_dataset_builder as moving_digits
from data_builders.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from data_builders.moving_shapes import render
from data_builders.stochastic_digits import stochastic_digits_dataset_builder as stochastic_digits
from flowvid.data import catalog, tfds_records
from flowvid.errors import DataError

pytest_plugins = ["records"]

GENERATED = {
    "moving_shapes": moving_shapes.Builder,
    "moving_digits": moving_digits.Builder,
    "stochastic_digits": stochastic_digits.Builder,
}


def config_found(name: str, data_dir: Path | None, num_frames: int = 30, image_size: int = 32):
    return catalog.find(name, data_dir, num_frames, image_size).builder_config.name


# Folders of records.


@pytest.mark.parametrize("below", ["moving_shapes", "moving_shapes/64x64_30f/1.1.0"])
def test_a_folder_of_records_is_a_dataset(shapes_dir, below):
    dataset = load(None, str(shapes_dir / below), num_frames=30, image_size=64)
    expected = render.render_clip(0, "train", 1, num_frames=30, image_size=64)[0]
    np.testing.assert_array_equal(dataset[1]["video"], expected)


@pytest.mark.parametrize(
    ("num_frames", "image_size", "chosen"),
    [(8, 32, "32x32_8f"), (9, 32, "32x32_30f"), (9, 16, "32x32_30f"), (8, 64, "64x64_30f")],
)
def test_a_folder_gives_the_nearest_size_and_the_shortest_sufficient_length(
    shapes_dir, num_frames, image_size, chosen
):
    assert config_found(str(shapes_dir / "moving_shapes"), None, num_frames, image_size) == chosen


def test_the_newest_version_is_read(shapes_dir, tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        copy_records(shapes_dir, tmp_path / "shapes" / version, version=version)
    assert catalog.find(str(tmp_path), None, 4, 32).version == "1.10.0"


def test_unfinished_records_are_not_read(shapes_dir, tmp_path):
    copy_records(shapes_dir, tmp_path / "moving/incomplete.ABC_1.0.0", name="moving")
    with pytest.raises(DataError, match="/moving holds no prepared records"):
        load(tmp_path, "moving")
    with pytest.raises(DataError, match="holds no clips and no images"):
        load(tmp_path, str(tmp_path / "moving"))


def test_a_folder_of_several_datasets_is_refused(shapes_dir, tmp_path):
    for name in ("squares", "circles"):
        copy_records(shapes_dir, tmp_path / name / "1.0.0", name=name)
    with pytest.raises(DataError, match="holds several datasets: circles, squares;"):
        load(None, str(tmp_path))


@pytest.mark.parametrize("inside", ["", "deeper/data"])
def test_records_of_a_folder_are_not_stored_inside_it(tmp_path, inside):
    for index in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{index}.png")
    with pytest.raises(DataError, match=f"records of {tmp_path} cannot be stored inside it, in "):
        load(tmp_path / inside, str(tmp_path), num_frames=1, image_size=8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png"]


FOREIGN = {  # as other libraries write it beside images
    "of Hugging Face": '{"builder_name": "imagefolder", "splits": {"train": {"name": "train"}}}',
    "a text": "my dataset",
    "empty": "",
}


@pytest.mark.parametrize("features", [None, "", '{"image": {"dtype": "uint8"}}', "folder"])
@pytest.mark.parametrize("where", ["", "cat/"])
@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_not_of_tfds_is_no_record(tmp_path, case, where, features):
    (tmp_path / "cat").mkdir()
    for index in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"cat/{index}.png")
    (tmp_path / where / "dataset_info.json").write_text(FOREIGN[case])
    beside = tmp_path / where / "features.json"
    if features == "folder":
        beside.mkdir()
    elif features is not None:
        beside.write_text(features)
    assert catalog.holds_images(str(tmp_path))
    table = catalog.describe_files(str(tmp_path))
    count = 1 + beside.is_file()
    assert f"  .json             {count}  ignored: neither a clip nor an image" in table


def test_files_of_an_owner_without_a_name_are_used(tmp_path, monkeypatch):
    """As in containers that run as any user."""

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    (tmp_path / "shard").write_bytes(b"12345")
    tfds_records.allow_unknown_owners()
    found = epath.Path(tmp_path / "shard").stat()
    assert (found.length, found.is_directory, found.owner) == (5, False, None)
    assert epath.Path(tmp_path).stat().is_directory


# Generated datasets.


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_set_is_prepared_on_first_use_and_quietly(tmp_path, monkeypatch, capsys, name):
    monkeypatch.setattr(GENERATED[name], "NUM_CLIPS", FEW_CLIPS)
    verbosity = logging.get_verbosity()
    assert len(load(tmp_path, name, image_size=16)) == 3
    assert [path.name for path in (tmp_path / name).glob("[0-9]*")] == ["32x32_30f"]
    assert capsys.readouterr().out == (
        f"Preparing {name} in {tmp_path}/{name}/32x32_30f/{GENERATED[name].VERSION}, once.\n"
    )
    assert logging.get_verbosity() == verbosity

    # A second use reads what the first one wrote.
    monkeypatch.setattr(GENERATED[name], "download_and_prepare", None)
    assert len(load(tmp_path, name, split="validation", image_size=32)) == 2
    assert len(load(tmp_path, f"{name}/32x32_30f")) == 3
    assert capsys.readouterr().out == ""


def test_a_config_of_a_generated_set_is_prepared_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setattr(stochastic_digits.Builder, "NUM_CLIPS", FEW_CLIPS)
    name = "stochastic_digits/32x32_30f_one_digit"
    assert not catalog.holds_images(name, tmp_path)
    one = load(tmp_path, name)[1]["video"]
    two = load(tmp_path, "stochastic_digits")[1]["video"]  # not the config of one digit
    assert (two >= one).all()
    assert (two > one).any()
    with pytest.raises(DataError, match="at 32x32, but image size 64 was asked for"):
        load(tmp_path, name, image_size=64)


def test_another_process_may_prepare_the_same_records_first(tmp_path, monkeypatch):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", FEW_CLIPS)
    prepare = moving_shapes.Builder.download_and_prepare

    def lose_the_race(builder):
        prepare(moving_shapes.Builder(data_dir=tmp_path, config=builder.builder_config))
        raise OSError("Directory not empty")

    monkeypatch.setattr(moving_shapes.Builder, "download_and_prepare", lose_the_race)
    assert len(load(tmp_path)) == 3


def test_a_failure_to_prepare_is_not_hidden(tmp_path, monkeypatch):
    def fail(builder):
        raise OSError("No space left on device")

    monkeypatch.setattr(moving_shapes.Builder, "download_and_prepare", fail)
    with pytest.raises(OSError, match="No space left"):
        load(tmp_path)


def test_a_known_name_is_no_path(shapes_dir, tmp_path, monkeypatch):
    (tmp_path / "moments_in_time").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"^{shapes_dir}/moments_in_time does not exist"):
        load(shapes_dir, "moments_in_time")
    with pytest.raises(DataError, match="/moments_in_time holds no clips"):
        load(shapes_dir, "./moments_in_time")


def test_unfinished_preparations_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(moving_shapes.Builder, "NUM_CLIPS", FEW_CLIPS)
    for name in ("incomplete.ABC_1.1.0", "incomplete.XYZ_1.1.0"):
        (tmp_path / "moving_shapes/32x32_30f" / name).mkdir(parents=True)
    for _ in range(2):
        load(tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("/32x32_30f holds 2 unfinished preparations (incomplete.ABC_1.1.0, ") == 1
    assert (tmp_path / "moving_shapes/32x32_30f/incomplete.ABC_1.1.0").exists()


@pytest.mark.parametrize("name", ["moving_shapes", "moving_digits"])
def test_records_of_an_earlier_version_are_prepared_anew(tmp_path, monkeypatch, name):
    builder = GENERATED[name]
    with monkeypatch.context() as patch:  # as version 1.0.0 was
        patch.setattr(builder, "NUM_CLIPS", FEW_CLIPS)
        patch.setattr(builder, "VERSION", tfds.core.Version("1.0.0"))
        load(tmp_path, name)
    monkeypatch.setattr(builder, "NUM_CLIPS", {**FEW_CLIPS, "test": 2})
    assert len(load(tmp_path, name, "test")) == 2
    prepared = (tmp_path / name / "32x32_30f").iterdir()
    assert sorted(path.name for path in prepared) == ["1.0.0", "1.1.0"]


# Moments in Time.


def test_other_splits_and_strides_are_taken_by_their_names_alone(moments_dir):
    # "30f" alone would come after these two in the alphabet.
    data_dir = moments_dir("32x32_30f", "32x32_30-paper", "32x32_30_stride")
    assert config_found("moments_in_time", data_dir) == "32x32_30f"
    for config in ("32x32_30-paper", "32x32_30_stride", "32x32_30f"):
        assert config_found(f"moments_in_time/{config}", data_dir) == config
    assert len(load(data_dir, "moments_in_time/32x32_30-paper", "validation")) == 2


def test_a_path_to_several_configs_of_one_shape_is_refused(moments_dir):
    data_dir = moments_dir("32x32_30f", "32x32_30f_paper_split")
    message = r"configs of that size and length: 32x32_30f, 32x32_30f_paper_split; use --dataset="
    with pytest.raises(DataError, match=message):
        load(None, str(data_dir / "moments_in_time"))
    path = data_dir / "moments_in_time/32x32_30f_paper_split"
    assert config_found(str(path), None) == "32x32_30f_paper_split"


def test_where_there_are_only_others_their_names_are_told(moments_dir):
    data_dir = moments_dir("64x64_30f_paper_split", "64x64_30f_every_3rd")
    with pytest.raises(DataError) as raised:
        load(data_dir, "moments_in_time")
    message = str(raised.value)
    assert (
        "--dataset=moments_in_time/64x64_30f_every_3rd or moments_in_time/64x64_30f_paper_split"
    ) in message
    assert "tfds build data_builders/moments_in_time --manual_dir=" in message
    assert "\n" not in message


# Which datasets hold images. (Of folders of records: test_images.py.)


def test_what_holds_images(image_sets, moments_dir, shapes_dir, tmp_path):
    for name in ("celeb_a", "mnist", str(image_sets / "lfw")):
        assert catalog.holds_images(name, image_sets), name
    assert not catalog.holds_images("moving_shapes/32x32_30f", shapes_dir)
    assert not catalog.holds_images("moments_in_time", moments_dir("32x32_30f"))
    for name in GENERATED:
        assert not catalog.holds_images(name, image_sets)


def test_what_of_ones_own_holds_images(tmp_path):
    for kind in ("images", "clips"):
        for index in range(2):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / kind / f"{index}.png")
    (tmp_path / "clips/clip.mp4").touch()
    shutil.make_archive(str(tmp_path / "zipped"), "zip", tmp_path / "images")
    assert catalog.holds_images(str(tmp_path / "images"), tmp_path / "none")
    assert catalog.holds_images(str(tmp_path / "zipped.zip"), tmp_path / "none")
    (tmp_path / "clips/another.mp4").touch()
    assert not catalog.holds_images(str(tmp_path / "clips"), tmp_path / "none")
    assert not (tmp_path / "none").exists()
