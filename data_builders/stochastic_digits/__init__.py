"""Stochastic digits: a generated video dataset, the stochastic Moving MNIST of SVG."""
