"""The size of a frame, which a flag or an argument may give as 64 or as 48x96."""

import re
from typing import Any, NamedTuple

from flowvid.errors import ConfigError

MAX_SIDE = 2**13


class Size(NamedTuple):
    """Height and width, in pixels, up to `MAX_SIDE`.

    As a text, it is "64" for a square, and "48x96" otherwise.
    """

    height: int
    width: int

    def __str__(self) -> str:
        return str(self.height) if self.height == self.width else self.both

    @property
    def both(self) -> str:
        """The size as a text with both sides, "64x64"."""
        return f"{self.height}x{self.width}"

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.height * self.width

    @property
    def plain(self) -> int | str:
        """The size as JSON holds it: a number for a square, a text otherwise."""
        return self.height if self.height == self.width else self.both

    @staticmethod
    def of(value: Any, name: str = "image_size") -> "Size":
        """Returns the size that 64, "64", "48x96" or a pair of whole numbers stands for.

        Raises:
            ConfigError: for anything else, naming it by `name`.
        """
        sides = value if isinstance(value, tuple | list) else str(value).lower().split("x")
        if len(sides) == 1:
            sides = [*sides, *sides]
        texts = [str(side) for side in sides]
        are_numbers = len(texts) == 2 and all(re.fullmatch("[0-9]{1,9}", text) for text in texts)
        if not are_numbers or not all(1 <= int(text) <= MAX_SIDE for text in texts):
            raise ConfigError(
                f"{name}={value!r}: use a whole number of pixels from 1 to {MAX_SIDE}, such as "
                "64, or height and width, such as 48x96."
            )
        return Size(*map(int, texts))


SizeLike = int | str | tuple[int, int]  # what `Size.of` takes; a `Size` is such a pair, too
