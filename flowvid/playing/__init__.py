"""A local page on which one samples from a run and watches the clips."""
