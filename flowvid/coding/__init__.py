"""Lossless compression of clips with a trained model (`flowvid.compress`, `decompress`)."""
