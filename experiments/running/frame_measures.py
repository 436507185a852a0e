"""PSNR and SSIM of frames, by dm-pix: RGB with grey levels from 0 to 255.

Dimensions: B pairs of frames or clips, T frames, H height, W width.
"""

from collections.abc import Callable

import dm_pix as pix
import jax
import numpy as np
from jaxtyping import Float, UInt8

Frames = UInt8[np.ndarray, "batch height width 3"]
Clips = UInt8[np.ndarray, "batch frames height width 3"]
Measure = Callable[[Frames, Frames], Float[np.ndarray, " batch"]]  # of real and generated frames

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels of the Gaussian window: Wang et al. 2004

_psnr = jax.jit(pix.psnr)
_ssim = jax.jit(pix.ssim, static_argnames=("filter_size", "filter_sigma"))


def psnr(real: Frames, generated: Frames) -> Float[np.ndarray, " batch"]:
    """Returns the peak signal-to-noise ratio of each frame, in decibels.

    The squared error is averaged over all pixels and channels. The ratio of equal frames is bounded
    by an error of one grey level in one pixel, so that means are finite.
    """
    bound = 10 * np.log10(255**2 * np.prod(real.shape[1:]))
    return np.minimum(np.asarray(_psnr(_from_0_to_1(real), _from_0_to_1(generated))), bound)


def ssim(real: Frames, generated: Frames) -> Float[np.ndarray, " batch"]:
    """Returns the structural similarity of each frame: the mean over its windows and channels.

    Windows are 11x11 and lie within the frame, which is at least as large. They are weighted by a
    Gaussian with a standard deviation of 1.5 pixels. The data range is 1, for grey levels divided
    by 255.
    """
    settings = {"filter_size": SSIM_WINDOW, "filter_sigma": SSIM_SIGMA}
    return np.asarray(_ssim(_from_0_to_1(real), _from_0_to_1(generated), **settings))


def of_clips(measure: Measure, real: Clips, generated: Clips) -> Float[np.ndarray, "batch frames"]:
    """Returns a measure of each frame of clips, one frame of all clips after another."""
    frames = range(real.shape[1])
    return np.stack([measure(real[:, time], generated[:, time]) for time in frames], axis=1)


def _from_0_to_1(frames: Frames) -> Float[np.ndarray, "batch height width 3"]:
    return frames.astype(np.float32) / np.float32(255)
