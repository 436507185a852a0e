"""The U-Net context encoder: a memory of each pixel, motion, and features of every level."""
