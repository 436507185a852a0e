"""Sizes of frames, as flags, arguments and JSON give them."""

import json

import pytest

from flowvid.config import config_file
from flowvid.config.making import changed, preset_config
from flowvid.errors import ConfigError
from flowvid.sizes import MAX_SIDE, Size


@pytest.mark.parametrize("given", [64, "64", "64x64", (64, 64), [64, 64], Size(64, 64)])
def test_a_square_may_be_given_in_many_ways(given):
    assert Size.of(given) == Size(64, 64)
    assert Size.of(given).plain == 64
    assert str(Size.of(given)) == "64"


@pytest.mark.parametrize("given", ["48x96", "48X96", (48, 96), [48, 96], Size(48, 96)])
def test_other_shapes_are_height_and_width(given):
    assert Size.of(given) == Size(height=48, width=96)
    assert Size.of(given).plain == str(Size.of(given)) == Size.of(given).both == "48x96"
    assert Size.of(given).pixels == 48 * 96


@pytest.mark.parametrize(
    "given", ["", "x", "48x", "1x2x3", "0", "-8", 0, -8, 1.5, None, "4 8", (1, 2, 3), MAX_SIDE + 1]
)
def test_what_is_no_size_is_refused(given):
    with pytest.raises(ConfigError, match="use a whole number of pixels from 1 to 8192, such as"):
        Size.of(given)


@pytest.mark.parametrize("size", [Size(32, 32), Size(16, 48)])
def test_json_gives_a_configuration_its_size_back(size):
    config = preset_config("small", image_size=str(size))
    saved = json.loads(json.dumps(config_file.to_dict(config, ("a",))))
    assert saved["image_size"] == size.plain
    assert config_file.from_dict(saved)[0] == config
    assert changed(preset_config("small"), image_size=size.plain) == config


def test_each_side_must_be_halved():
    with pytest.raises(ConfigError, match=r"--image_size=32x36 must be divisible by 2\^levels = 8"):
        preset_config("small", image_size="32x36")


def test_label_images_are_learned_at_a_smaller_size_for_squares_alone():
    with pytest.raises(ConfigError, match=r"--label_size=8 needs square frames, but .*=16x32"):
        preset_config("paper_small", image_size="16x32", label_size=8)
