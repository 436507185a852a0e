"""The mixture flow: mixture CDFs over bins, coupled over the phases of a pyramid of images."""
