"""Decoding files as a step of a Beam pipeline; imported only where there is one."""

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam

from data_builders import files
from data_builders.files import Item, Video


class Decode(beam.DoFn):
    """Each item with its frames or the reason it has none.

    A process of its own decodes, since a crash would end the worker, at every new try.
    """

    def __init__(self, decode: Callable[[Item], Video | str]) -> None:
        super().__init__()
        self.decode = decode

    def setup(self) -> None:
        """Beam calls this once in a worker."""
        self.decoder = files.Decoder(self.decode)

    def process(self, item: Any) -> Iterator[tuple[Any, Any]]:
        """The pair (item, frames or reason)."""
        yield item, self.decoder(item)

    def teardown(self) -> None:
        """Beam calls this when the worker has nothing more to do."""
        self.decoder.stop()
