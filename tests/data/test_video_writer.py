"""Writing videos frame by frame: the same files, whole or not there, with constant memory."""

import tracemalloc

import numpy as np
import pytest

from flowvid.data import decoding, media
from flowvid.data.video_writer import VideoWriter

ENDINGS = ("gif", "mp4", "webm", "mkv")


def frame(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (24, 40, 3), np.uint8)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_video_appears_when_it_is_complete(tmp_path, ending):
    path = tmp_path / "new: folder" / f"clip.{ending}"
    with VideoWriter(path, scale=1) as writer:
        for number in range(5):
            writer.write(frame(number))
            assert not path.exists()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    if ending == "gif":
        media.write_video(tmp_path / "other.gif", np.stack([frame(n) for n in range(5)]), scale=1)
        assert path.read_bytes() == (tmp_path / "other.gif").read_bytes()
    else:
        assert len(list(decoding.iterate(path, (24, 40)))) == 5


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_interrupted_video_leaves_nothing(tmp_path, ending, count):
    path = tmp_path / f"clip.{ending}"
    path.write_text("as it was")
    with pytest.raises(KeyboardInterrupt), VideoWriter(path) as writer:
        for number in range(count):
            writer.write(frame(number))
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "as it was"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_discarded_video_leaves_nothing(tmp_path, ending):
    with VideoWriter(tmp_path / f"clip.{ending}") as writer:
        writer.write(frame(0))
        writer.discard()
        writer.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path, ending):
    def most(count):
        tracemalloc.start()
        with VideoWriter(tmp_path / f"clip.{ending}", scale=1) as writer:
            for number in range(count):
                writer.write(frame(number))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    most(2)  # imports
    assert most(120) < most(20) + 10 * frame(0).nbytes
