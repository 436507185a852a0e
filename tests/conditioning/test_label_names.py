"""Labels by their names, also where several look alike."""

import pytest

from flowvid.conditioning.label_names import as_shown, label_index
from flowvid.errors import DataError

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
SHOWN = {
    "plain": (("bounce", "fall"), ["bounce", "fall"]),
    "accents": ((COMPOSED, "run"), [COMPOSED, "run"]),
    "composed and decomposed": ((DECOMPOSED, COMPOSED, "run"), ["cafe\\u0301", "caf\\xe9", "run"]),
    "wide letters": (("walk", "\uff57alk"), ["walk", "\\uff57alk"]),
    "ligatures": (("\ufb01sh", "fish"), ["\\ufb01sh", "fish"]),
    "a space that does not break": (("a b", "a\u00a0b"), ["a b", "a\\xa0b"]),
    "emoji": (("😀", "walk"), ["😀", "walk"]),
    "zero-width characters": (
        ("fall", "fa\u200bll", "\ufefffall"),
        ["fall", r"fa\u200bll", r"\ufefffall"],
    ),
    "controls of direction": (("\u202ellaf", "a\u2066b\u2069"), [r"\u202ellaf", r"a\u2066b\u2069"]),
    "control characters": (("a\x85", "a\x7f", "a\nb\x1b"), [r"a\x85", r"a\x7f", r"a\nb\x1b"]),
    "spaces": (("a\u00a0b", "a\u2003b"), [r"a\xa0b", r"a\u2003b"]),
    "fillers": (("fall\u3164", "\u2800run"), [r"fall\u3164", r"\u2800run"]),
    "selectors of variants": (("❤\ufe0f", "❤"), [r"❤\ufe0f", "❤"]),
    "invisible in another script": (("ходьба\u200b",), [r"ходьба\u200b"]),
    "Cyrillic": (("cop", "\u0441\u043e\u0440"), ["cop", r"\u0441\u043e\u0440"]),
    "Greek": (("AB", "\u0391\u0392", "\u0410\u0412"), ["AB", r"\u0391\u0392", r"\u0410\u0412"]),
    "Armenian": (("oh", "\u0585\u0570"), ["oh", r"\u0585\u0570"]),
    "accents on look-alikes": (("\u00e9", "\u0435\u0301"), [r"\xe9", r"\u0435\u0301"]),
    "dashes": (("a-b", "a\u2013b"), ["a-b", r"a\u2013b"]),
    "mixed scripts": (("f\u0430ll", "run"), [r"f\u0430ll", "run"]),
    "scripts in words of their own": (("walk ходьба", "β-test"), ["walk ходьба", "β-test"]),
    "ordinary names": (("сосна", "歩く", "カタカナ語", "ελιά", "한국어"),) * 2,
    "names with backslashes": (("é", "e\u0301", r"\xe9"), [r"\xe9", r"e\u0301", r"\\xe9"]),
}


@pytest.mark.parametrize("case", SHOWN)
def test_labels_are_shown_so_that_they_can_be_told_apart(case):
    names, shown = SHOWN[case]
    assert as_shown(names) == list(shown)
    for index, name in enumerate(names):
        assert label_index(names, name) == index
        if shown[index] not in names:
            assert label_index(names, shown[index]) == index


def test_a_label_may_be_given_in_another_form():
    assert label_index(("run", DECOMPOSED), COMPOSED) == 1
    assert label_index((COMPOSED, "run"), DECOMPOSED) == 0
    assert label_index(("run", "fall\u200b"), "fall") == 1


def test_a_label_that_looks_like_several_is_refused():
    names = ("\ufb01sh", "\uff46ish")
    with pytest.raises(DataError, match=r"look like 'fish'; use \\ufb01sh or \\uff46ish\."):
        label_index(names, "fish")


def test_unknown_labels_name_the_nearest():
    names = ("bounce", DECOMPOSED, COMPOSED)
    with pytest.raises(DataError, match=r"'bouncy'; the nearest of 3: bounce, caf"):
        label_index(names, "bouncy")
