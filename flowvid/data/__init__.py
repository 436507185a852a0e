"""Datasets: finding, reading and describing them, decoding and writing media files."""
