"""Decodes files as a step of a Beam pipeline; imported only if there is one."""

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam

from data_builders import files
from data_builders.files import Video
from data_builders.listing import Item


class Decode(beam.DoFn):
    """Pairs each item with its frames or the reason for skipping it.

    A separate process decodes, since a crash in the worker itself would end it at every retry.
    """

    def __init__(self, decode: Callable[[Item], Video | str]) -> None:
        super().__init__()
        self.decode = decode

    def setup(self) -> None:
        """Creates the decoder; Beam calls this once per worker."""
        self.decoder = files.Decoder(self.decode)

    def process(self, item: Any) -> Iterator[tuple[Any, Any]]:
        """Yields the pair (item, frames or reason)."""
        yield item, self.decoder(item)

    def teardown(self) -> None:
        """Stops the decoder; Beam calls this when the worker ends."""
        self.decoder.stop()
