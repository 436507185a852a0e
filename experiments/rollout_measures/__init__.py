"""How well continuations keep up with the real frames: PSNR, and objects that stay whole."""
