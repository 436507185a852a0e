"""Several devices and several processes working on one run."""
