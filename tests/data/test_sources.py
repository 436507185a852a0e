"""Clips to compress or to score: in which order they come, and with which label."""

import numpy as np
import pytest

from flowvid.config.making import preset_config
from flowvid.data import media, sources
from flowvid.errors import ClipError, ConfigError
from flowvid.video.model import Model


def model_of(**changes):
    fields = {"preset": "paper_small", "image_size": 16, "levels": 1, "num_labels": 3}
    return Model(preset_config(**fields | changes), tuple("abc"), {}, 0, averaged=False)


@pytest.fixture
def folder(tmp_path):
    """Two clips and an image, in folders."""
    video = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    media.write_lossless(tmp_path / "b" / "two", video[:2], "mkv", 10)
    media.write_lossless(tmp_path / "three", video, "mkv", 10)
    media.write_image(tmp_path / "a" / "one.png", video[0])
    (tmp_path / "notes.txt").write_text("not a clip")
    return tmp_path


def test_clips_of_a_folder_come_by_name_and_are_read_when_they_are_needed(folder):
    clips = sources.of_path(model_of(), folder, None)
    (folder / "b" / "two.mkv").write_text("damaged")
    found = [next(clips)]
    found.append(next(clips))
    assert [clip.name for clip in found] == ["a/one.png", "b/two.mkv"]
    assert [clip.label for clip in found] == [3, 3]  # not told
    assert [frame.shape for frame in found[0].frames] == [(16, 16, 3)]
    with pytest.raises(ClipError, match=r"two\.mkv: not readable as video"):
        next(found[1].frames)
    assert len(list(next(clips).frames)) == 3


def test_labels_are_told_where_they_must_be(folder):
    path, labelled = folder / "three.mkv", model_of(variant="state_label")
    (clip,) = sources.of_path(labelled, path, "b")
    assert (clip.name, clip.label) == ("three.mkv", 1)
    with pytest.raises(ConfigError, match="trained with every label told: give the clips' --label"):
        next(sources.of_path(labelled, path, None))
    dropping = model_of(preset="small", head_levels=1, variant="label_everywhere")
    assert next(sources.of_path(dropping, path, None)).label == 3


def test_a_run_of_single_images_takes_no_clips(folder):
    images = model_of(num_frames=1)
    (clip,) = sources.of_path(images, folder / "a", None)
    assert len(list(clip.frames)) == 1
    with pytest.raises(ConfigError, match=r"has no tail for .*three\.mkv, which has more than one"):
        next(sources.of_path(images, folder / "three.mkv", None))
