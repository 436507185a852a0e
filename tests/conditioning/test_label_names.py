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
}


@pytest.mark.parametrize("case", SHOWN)
def test_labels_are_shown_so_that_they_can_be_told_apart(case):
    names, shown = SHOWN[case]
    assert as_shown(names) == shown
    for index, name in enumerate(names):
        assert label_index(names, name) == index
        assert label_index(names, shown[index]) == index


def test_a_label_may_be_given_in_another_form():
    assert label_index(("run", DECOMPOSED), COMPOSED) == 1
    assert label_index((COMPOSED, "run"), DECOMPOSED) == 0


def test_a_label_that_looks_like_several_is_refused():
    names = ("\ufb01sh", "\uff46ish")
    with pytest.raises(DataError, match=r"look like 'fish'; use \\ufb01sh or \\uff46ish\."):
        label_index(names, "fish")


def test_unknown_labels_name_the_nearest():
    names = ("bounce", DECOMPOSED, COMPOSED)
    with pytest.raises(DataError, match=r"'bouncy'; the nearest of 3: bounce, caf"):
        label_index(names, "bouncy")
