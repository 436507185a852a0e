"""Networks of the user's own: what they are given, and what is said of those that do not fit."""

import builtins

import numpy as np
import onnx_networks
import pytest

from experiments.prediction_measures import networks
from flowvid.errors import ConfigError
from flowvid.sizes import Size

SIZE = Size(12, 16)
CLIPS = np.random.default_rng(0).integers(0, 256, (2, 4, 12, 16, 3), np.uint8)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_distance_is_given_images_from_minus_one_to_one(tmp_path, keepdims):
    path = onnx_networks.write_distance(tmp_path / "a.onnx", keepdims)
    distance = networks.image_distance(path, SIZE)
    found = distance(CLIPS[0], CLIPS[1])
    gap = np.abs(CLIPS[0].astype(float) - CLIPS[1]) / 127.5
    np.testing.assert_allclose(found, gap.mean(axis=(1, 2, 3)), rtol=1e-5)
    black = np.zeros((1, 12, 16, 3), np.uint8)
    np.testing.assert_allclose(distance(black, black + np.uint8(255)), [2])


def test_features_are_of_clips_with_channels_before_time(tmp_path):
    path = onnx_networks.write_features(tmp_path / "a.onnx")
    found = networks.clip_features(path, 4, SIZE)(CLIPS)
    np.testing.assert_allclose(found, CLIPS.mean(axis=(1, 2, 3)) / 127.5 - 1, atol=1e-5)
    path = onnx_networks.write_features(tmp_path / "b.onnx", axes=(1, 3, 4))
    found = networks.clip_features(path, 4, SIZE)(CLIPS)
    np.testing.assert_allclose(found, CLIPS.mean(axis=(2, 3, 4)) / 127.5 - 1, atol=1e-5)


@pytest.mark.parametrize(
    "shape",
    [("N", 3, 64, 64), (1, 3, "H", "W"), ("N", 3, "T", "H", "W")],
    ids=["another size", "one image at a time", "clips"],
)
def test_a_distance_of_other_inputs_is_refused(tmp_path, shape):
    path = onnx_networks.write(
        tmp_path / "a.onnx",
        {"real": shape, "generated": shape},
        [onnx_networks.helper.make_node("Sub", ["real", "generated"], ["out"])],
        ("out", shape),
    )
    with pytest.raises(ConfigError) as error:
        networks.image_distance(path, SIZE)
    listed = f"[{', '.join(map(str, shape))}]"
    assert str(error.value) == (
        f"--lpips={path} takes real tensor(float) {listed}, generated tensor(float) {listed}, but "
        "two images, tensor(float) [N, 3, 12, 16] with any N is needed: docs/prediction.md says "
        "how to export it."
    )


def test_one_input_is_not_enough_for_a_distance(tmp_path):
    path = onnx_networks.write_features(tmp_path / "a.onnx", ("N", 3, "H", "W"), axes=(2, 3))
    with pytest.raises(ConfigError, match=r"takes clips tensor\(float\) \[N, 3, H, W\], but two"):
        networks.image_distance(path, SIZE)


@pytest.mark.parametrize("axes", [(4,), (0, 2, 3, 4)], ids=["maps", "no batch"])
def test_features_of_other_shapes_are_refused(tmp_path, axes):
    path = onnx_networks.write_features(tmp_path / "a.onnx", axes=axes)
    features = networks.clip_features(path, 4, SIZE)
    with pytest.raises(ConfigError, match=r"gives \[.*\] for 2 clips, but \[N, D\] is needed"):
        features(CLIPS)


def test_a_distance_of_another_shape_is_refused(tmp_path):
    shape = ("N", 3, "H", "W")
    path = onnx_networks.write(
        tmp_path / "a.onnx",
        {"real": shape, "generated": shape},
        [onnx_networks.helper.make_node("Sub", ["real", "generated"], ["out"])],
        ("out", shape),
    )
    distance = networks.image_distance(path, SIZE)
    with pytest.raises(ConfigError, match=r"gives \[4, 3, 12, 16\] for 4 pairs, but \[N\] is"):
        distance(CLIPS[0], CLIPS[1])


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_text("no network", encoding="utf-8")
    for name in ("a", "b"):  # the second is not there
        with pytest.raises(ConfigError, match=r"is not an ONNX file that onnxruntime can open: "):
            networks.clip_features(tmp_path / f"{name}.onnx", 4, SIZE)


def test_a_network_that_fails_is_named(tmp_path):
    path = onnx_networks.write(
        tmp_path / "a.onnx",
        {"clips": ("N", 3, "T", "H", "W")},
        [
            onnx_networks.helper.make_node("Constant", [], ["shape"], value_ints=[-1, 7]),
            onnx_networks.helper.make_node("Reshape", ["clips", "shape"], ["out"]),
        ],
        ("out", ["N", 7]),
    )
    with pytest.raises(ConfigError, match=r"fails on \[2, 3, 4, 12, 16\]: "):
        networks.clip_features(path, 4, SIZE)(CLIPS)
    path = onnx_networks.write_features(tmp_path / "b.onnx", operation="ReduceLogSum")
    with pytest.raises(ConfigError, match="gives numbers that are not finite"):
        networks.clip_features(path, 4, SIZE)(np.zeros_like(CLIPS))


def test_onnxruntime_is_asked_for_where_it_is_missing(tmp_path, monkeypatch):
    imported = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"--features needs onnxruntime: run `pip install"):
        networks.clip_features(tmp_path / "a.onnx", 4, SIZE)
