"""The video models: head and tail, pixels and densities, sampling."""
