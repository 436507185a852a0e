"""Labels by their names: their indices, how they are shown, and those of unlabelled samples."""

import collections
import re
import unicodedata
from collections.abc import Iterable, Sequence

from flowvid.errors import DataError, nearest_first

# Letters and signs that most fonts draw like those of ASCII.
_LOOKALIKES: dict[int, int] = {
    **str.maketrans("АВЕЅІЈКМНОРСТУХԚԜаеѕіјорсухһԁԛԝӏ", "ABESIJKMHOPCTYXQWaesijopcyxhdqwl"),
    **str.maketrans("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧανιορυχγ", "ABEZHIKMNOPTYXaviopuxy"),
    **str.maketrans("ՕՍԼօսհցզո", "OULouhgqn"),
    **str.maketrans("ıɑɡ‐‒–−’⁄∕", "iag----'//"),  # noqa: RUF001
}
# Characters that `str.isprintable` allows although they are drawn as nothing or as a space: the
# combining grapheme joiner, Hangul fillers, Khmer inherent vowels, the blank of Braille, and
# selectors of variants.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u180b\u180c\u180d\u180f")
_VARIANTS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))
_MIXABLE = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN")  # scripts whose letters look alike


def label_index(label_names: Sequence[str], label: object) -> int:
    """Returns the index of a label, which may be given as it is shown or in another Unicode form.

    Raises:
        DataError: for an unknown label, listing the nearest known ones, if several look like it, or
            if it is not a text.
    """
    if not isinstance(label, str):
        raise DataError(f"label={label!r} is not a name: use one such as {label_names[0]!r}.")
    if label in label_names:
        return label_names.index(label)
    shown = as_shown(label_names)
    if label in shown:
        return shown.index(label)
    alike = [i for i, name in enumerate(label_names) if _look(name) == _look(label)]
    if len(alike) == 1:
        return alike[0]
    if alike:
        names = " or ".join(shown[index] for index in alike)
        raise DataError(f"Several labels look like {label!r}; use {names}.")
    nearest = ", ".join(nearest_first(label, shown)[:5])
    raise DataError(f"Unknown label {label!r}; the nearest of {len(label_names)}: {nearest}.")


def as_shown(label_names: Sequence[str]) -> list[str]:
    """Returns the labels as texts that can be told apart.

    Invisible characters are always escaped, as in Python's literals. Characters beyond ASCII are
    escaped in labels that look alike, for example with composed and decomposed accents or with
    Latin and Cyrillic letters, and in labels with a word that mixes such scripts.
    """
    names = set(label_names)
    escaped = {name for name in names if _mixes_scripts(name)}
    while True:
        shown = {n: _escape(n) if n in escaped else _escape_invisible(n) for n in names}
        looks = collections.Counter(map(_look, shown.values()))
        alike = {name for name in names - escaped if looks[_look(shown[name])] > 1}
        if not alike:
            return [shown[name] for name in label_names]
        escaped |= alike  # whose texts may look like those of further labels


def _escape(name: str) -> str:
    """Returns a name in ASCII; no two names become equal."""
    return name.encode("unicode_escape").decode()


def _escape_invisible(name: str) -> str:
    return "".join(_escape(c) if _is_invisible(c) else c for c in name)


def _is_invisible(character: str) -> bool:
    """Returns whether a character is a control, a format, a space beyond ASCII, or the like."""
    if character in _INVISIBLE or any(ord(character) in variants for variants in _VARIANTS):
        return True
    return not character.isprintable()


def _mixes_scripts(name: str) -> bool:
    """Returns whether a word has letters of several scripts, one of them like a letter of ASCII."""
    return any(
        len(_scripts(word)) > 1 and word != word.translate(_LOOKALIKES)
        for word in re.findall(r"[^\W\d_]+", name)
    )


def _scripts(word: str) -> set[str]:
    return {unicodedata.name(letter, "").split(" ")[0] for letter in word} & set(_MIXABLE)


def _look(name: str) -> str:
    """Returns what a name looks like; names that look alike have the same look."""
    visible: Iterable[str] = (c for c in name if not _is_invisible(c) or c.isspace())
    return unicodedata.normalize("NFKD", "".join(visible)).translate(_LOOKALIKES)


def in_turn(label_names: Sequence[str], count: int) -> list[str]:
    """Returns `count` labels, all known ones in turn."""
    return [label_names[i % len(label_names)] for i in range(count)]
