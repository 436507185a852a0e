"""The image datasets of TFDS: their images, labels and splits."""

from pathlib import Path

import numpy as np
import pytest
from records import DIGITS, FACES, Lfw, Mnist, load

from flowvid.config.dataset_names import say_once
from flowvid.data import datasets
from flowvid.errors import DataError

pytest_plugins = ["records"]


def images(data_dir: Path, name: str, split: str, image_size: int) -> tuple[datasets.Dataset, list]:
    """Returns a split and all of its items."""
    dataset = load(data_dir, name, split, num_frames=1, image_size=image_size)
    items = [dataset[index] for index in range(len(dataset))]
    assert {item["video"].shape for item in items} == {(1, image_size, image_size, 3)}
    return dataset, items


def block_means(image: np.ndarray, size: int) -> np.ndarray:
    block = len(image) // size
    return image.reshape(size, block, size, block, -1).mean(axis=(1, 3))


@pytest.mark.parametrize(("split", "indices"), [("train", [0, 1]), ("validation", [2])])
def test_celeb_a_is_cut_to_the_face_and_averaged(image_sets, split, indices):
    dataset, items = images(image_sets, "celeb_a", split, 37)
    assert dataset.label_names == ("unlabelled",)
    assert [item["label"] for item in items] == [0] * len(indices)
    assert [item["id"] for item in items] == [str(i) for i in range(len(indices))]
    for item, index in zip(items, indices, strict=True):
        expected = block_means(FACES[index, 40:188, 15:163], 37)
        assert np.abs(item["video"][0] - expected).max() <= 1


def test_grey_images_get_three_channels_and_keep_their_labels(image_sets):
    dataset, items = images(image_sets, "mnist", "train", 14)
    assert dataset.label_names == tuple("0123456789")
    assert [int(item["label"]) for item in items] == [9 - i % 10 for i in range(18)]
    for item, digit in zip(items, DIGITS, strict=False):
        expected = np.broadcast_to(block_means(digit, 14), (14, 14, 3))
        assert np.abs(item["video"][0] - expected).max() <= 1


# Splits.


@pytest.mark.parametrize(
    ("split", "indices"),
    [("train", range(18)), ("validation", range(18, 20)), ("test", range(20, 22))],
)
def test_without_a_validation_split_the_end_of_train_is_held_out(image_sets, split, indices):
    _, items = images(image_sets, "mnist", split, 28)
    for item, digit in zip(items, DIGITS[list(indices)], strict=True):
        np.testing.assert_array_equal(item["video"][0], np.broadcast_to(digit, (28, 28, 3)))
    if split != "test":  # the ids are the numbers of the images in train as it was prepared
        assert [item["id"] for item in items] == [str(index) for index in indices]


def test_what_is_held_out_is_said_once(image_sets, capsys):
    say_once.cache_clear()
    for split in ("train", "validation", "test", "train"):
        images(image_sets, "mnist", split, 28)
        images(image_sets, "celeb_a", split, 37)
    assert capsys.readouterr().out == (
        f"mnist in {image_sets}/mnist/1.0.0 has no validation split: the last 2 of its 20 "
        "training images are held out for validation.\n"
    )


def test_at_least_one_image_is_held_out(image_sets):
    for split, levels in (("train", [0, 50]), ("validation", [100])):
        _, items = images(image_sets, "lfw", split, 8)
        assert [int(item["video"].mean()) for item in items] == levels
    with pytest.raises(DataError, match="lfw has no examples in split 'test'; it has 2 in 'train'"):
        images(image_sets, "lfw", "test", 8)


def test_of_a_single_image_none_is_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr(Lfw, "RECORDS", {"train": Lfw.RECORDS["train"][:1]})
    Lfw(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    assert len(images(tmp_path, "lfw", "train", 8)[0]) == 1
    with pytest.raises(DataError, match="no examples in split 'validation'; it has 1 in 'train'"):
        images(tmp_path, "lfw", "validation", 8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("celeb_a", {"train", "validation", "test"}),
        ("mnist", {"train", "validation", "test"}),
        ("lfw", {"train", "validation"}),
    ],
)
def test_whether_a_dataset_has_a_split(image_sets, name, expected):
    sizes = {"data_dir": image_sets, "num_frames": 1, "image_size": 8}
    names = ("train", "validation", "test", "all")
    assert {split for split in names if datasets.has_split(name, split, **sizes)} == expected


def test_the_held_out_images_have_a_fingerprint_of_their_own(image_sets):
    prints = {images(image_sets, "mnist", s, 28)[0].fingerprint for s in ("train", "validation")}
    assert len(prints) == 2


# Other images.


def test_images_may_differ_in_size_and_labels_be_no_classes(image_sets):
    dataset, items = images(image_sets, "lfw", "train", 8)
    assert dataset.label_names == ("unlabelled",)
    assert [(int(item["label"]), int(item["video"].mean())) for item in items] == [(0, 0), (0, 50)]


def test_a_path_to_an_image_set_is_that_set(image_sets):
    _, by_name = images(image_sets, "celeb_a", "train", 37)
    _, by_path = images(None, str(image_sets / "celeb_a"), "train", 37)
    np.testing.assert_array_equal(by_path[1]["video"], by_name[1]["video"])


def test_more_frames_than_one_are_refused(image_sets):
    with pytest.raises(DataError, match=r"celeb_a holds single images, but 2 frames .*_frames=1,"):
        load(image_sets, "celeb_a", num_frames=2)


def test_images_without_an_index_are_refused(tmp_path):
    Mnist(data_dir=tmp_path, file_format="tfrecord").download_and_prepare()
    with pytest.raises(DataError, match=r"are tfrecord, .* `tfds build --file_format=array_"):
        load(tmp_path, "mnist", num_frames=1)
