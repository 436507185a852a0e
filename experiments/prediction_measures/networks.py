"""Networks of the user's own, as ONNX files: a distance of images, and features of clips.

Dimensions: N images or clips of a batch, T frames, H height, W width, D features.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from experiments.running.frame_measures import Clips, Frames, Measure
from flowvid.errors import ConfigError
from flowvid.sizes import Size

Features = Float[np.ndarray, "clips features"]
FeaturesOf = Callable[[Clips], Features]
_DOCS = "docs/prediction.md says how to export it"
_FATAL = 4  # other messages of onnxruntime come as errors, too, and are not printed twice
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def image_distance(path: pathlib.Path, size: Size) -> Measure:
    """Returns the distance of --lpips: a function of real and generated frames.

    Args:
        path: the ONNX file, from two images float32 [N, 3, H, W] in [-1, 1] to a distance, [N] or
            [N, 1, 1, 1].
        size: of the frames.

    Raises:
        ConfigError: for a file that is no such network; the function raises it, too.
    """
    network = _Network("lpips", path, ("two images", 2), (3, *size))

    def distance(real: Frames, generated: Frames) -> Float[np.ndarray, " batch"]:
        found = network.apply(real, generated)
        if found.shape not in ((len(real),), (len(real), 1, 1, 1)):
            raise network.refusal(f"gives {list(found.shape)} for {len(real)} pairs", "[N]")
        return found.reshape(len(real))

    return distance


def clip_features(path: pathlib.Path, num_frames: int, size: Size) -> FeaturesOf:
    """Returns the features of --features: a function of clips.

    Args:
        path: the ONNX file, from clips float32 [N, 3, T, H, W] in [-1, 1] to features [N, D].
        num_frames: of the clips.
        size: of their frames.

    Raises:
        ConfigError: for a file that is no such network; the function raises it, too.
    """
    network = _Network("features", path, ("clips", 1), (3, num_frames, *size))

    def features(clips: Clips) -> Features:
        found = network.apply(clips)
        if found.ndim != 2 or len(found) != len(clips):
            raise network.refusal(f"gives {list(found.shape)} for {len(clips)} clips", "[N, D]")
        return found

    return features


class _Network:
    """A network that onnxruntime runs, on a GPU where its package for GPUs is installed."""

    def __init__(
        self, flag: str, path: pathlib.Path, inputs: tuple[str, int], shape: tuple[int, ...]
    ) -> None:
        """Opens the file and compares its inputs with what it will be given.

        Args:
            flag: the name of the flag, for errors.
            path: the file.
            inputs: what they are called in errors, and how many there are.
            shape: of each of them, without the batch.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                f"--{flag} needs onnxruntime: run `pip install 'flowvid[features]'`."
            ) from error
        self.flag, self.path = flag, path
        available = onnxruntime.get_available_providers()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, [name for name in _PROVIDERS if name in available]
            )
        except Exception as error:  # onnxruntime's errors have no class of their own in common
            raise ConfigError(
                f"--{flag}={path} is not an ONNX file that onnxruntime can open: {_line(error)}"
            ) from error
        what, count = inputs
        found = self.session.get_inputs()
        fit = [one.type == "tensor(float)" and _fits(one.shape, shape) for one in found]
        if len(found) != count or not all(fit):
            given = ", ".join(f"{one.name} {one.type} {_listed(one.shape)}" for one in found)
            wanted = f"{what}, tensor(float) {_listed(['N', *shape])} with any N"
            raise self.refusal(f"takes {given or 'nothing'}", wanted)

    def refusal(self, found: str, wanted: str) -> ConfigError:
        """Returns the error that says what the network has, and what is needed."""
        return ConfigError(f"--{self.flag}={self.path} {found}, but {wanted} is needed: {_DOCS}.")

    def apply(self, *frames: UInt8[np.ndarray, "batch *shape 3"]) -> Float[np.ndarray, "..."]:
        """Returns the first output for grey levels from 0 to 255, which are put into [-1, 1]."""
        names = [one.name for one in self.session.get_inputs()]
        arrays = [np.moveaxis(x.astype(np.float32) / 127.5 - 1, -1, 1) for x in frames]
        given = {n: np.ascontiguousarray(x) for n, x in zip(names, arrays, strict=True)}
        try:
            found = np.asarray(self.session.run(None, given)[0])
        except Exception as error:  # as above
            raise ConfigError(
                f"--{self.flag}={self.path} fails on {list(arrays[0].shape)}: {_line(error)}"
            ) from error
        if not np.isfinite(found).all():
            raise ConfigError(f"--{self.flag}={self.path} gives numbers that are not finite.")
        return found


def _fits(found: Sequence[Any], wanted: Sequence[int]) -> bool:
    """Returns whether an input takes a shape, in batches of any size; named axes take any size."""
    if len(found) != 1 + len(wanted) or isinstance(found[0], int):
        return False
    pairs = zip(found[1:], wanted, strict=True)
    return all(not isinstance(axis, int) or axis == size for axis, size in pairs)


def _listed(shape: Sequence[Any]) -> str:
    return f"[{', '.join('any' if axis is None else str(axis) for axis in shape)}]"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
