"""The built-in world's words."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.embedded import vocabulary
from backend.embedded.vocabulary import (
    COLOURS,
    HELD_OUT,
    MATERIALS,
    NATURAL_COLOURS,
    OBJECTS,
    VIEW_WORDS,
    Description,
    captions,
    parse,
    view_word,
)
from backend.errors import PromptError

descriptions = st.builds(
    Description,
    st.sampled_from(OBJECTS),
    st.none() | st.sampled_from(list(COLOURS)),
    st.none() | st.sampled_from(MATERIALS),
    st.none() | st.sampled_from(VIEW_WORDS),
)


@given(descriptions)
def test_every_caption_parses_back(description: Description) -> None:
    assert parse(description.text) == description
    for caption in captions(description):
        assert parse(caption) == description


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a DSLR photo of a stripy orange kitten, front view", Description("cat", "orange", "striped", "front view")),
        ("Grey automobile", Description("car", "gray")),
        ("a mug made of wood", Description("mug", None, "wooden")),
        ("a golden teapot seen from behind", Description("teapot", None, "golden", "back view")),
        ("the teddy-bear with polka dots", Description("bear", None, "spotted")),
        ("A red car on a plain white background", Description("car", "red")),
        ("two words: penguins!!!", None),
        ("puppies", Description("dog")),
        ("snowmen", Description("snowman")),
        ("tabby", Description("cat", None, "striped")),
        ("a bus", Description("bus")),
        ("buses", Description("bus")),
        ("a bird\N{RIGHT SINGLE QUOTATION MARK}s eye view of a TV set", Description("television", None, None, "overhead view")),
    ],
)
def test_phrasings(text: str, expected: Description | None) -> None:
    if expected is None:
        with pytest.raises(PromptError, match="'two' and 'words'"):
            parse(text)
    else:
        assert parse(text) == expected


def test_the_last_view_word_counts() -> None:
    assert parse("a cat, front view, back view").view == "back view"
    assert parse("a cat from behind, front view, back view, front view").view == "front view"


def test_an_unknown_word_is_named_with_its_nearest_and_the_way_out() -> None:
    with pytest.raises(PromptError) as caught:
        parse("a purpel elefant with a zeppelin")
    assert "'purpel', 'elefant' and 'zeppelin'" in caught.value.message
    assert "purple" in caught.value.message
    assert "elephant" in caught.value.message
    assert "another image model" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("red", "no object"),
        ("a photo of", "no object"),
        ("cat" * 400, "characters"),
        ("a cat and a dog", "one object at a time, and the prompt names cat and dog"),
        ("a red blue car", "one colour"),
        ("a golden wooden chair", "one material"),
        ("\N{SAUROPOD}", "no object"),
        ("\u732b", "does not know"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(PromptError, match=reason):
        parse(text)


@given(st.text(max_size=80))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        assert parse(text).object in OBJECTS
    except PromptError as error:
        assert error.remedy


def test_synonyms_lead_to_known_words() -> None:
    known = {*OBJECTS, *COLOURS, *MATERIALS, *VIEW_WORDS}
    for phrase, canonical in vocabulary._SYNONYMS.items():
        assert phrase not in known
        assert canonical in known or set(canonical.split()) <= known
        assert len(phrase.split()) <= 4
        words = [*vocabulary._FILLERS, *known]
        assert phrase not in words


def test_natural_colours() -> None:
    assert set(NATURAL_COLOURS) == set(OBJECTS)
    assert Description("pig").base_colour == "pink"
    assert Description("pig", "blue", "wooden").base_colour == "blue"
    assert Description("pig", None, "golden").base_colour is None
    assert Description("pig", None, "striped").base_colour == "pink"


def test_held_out_pairs_are_spread_evenly() -> None:
    assert len(HELD_OUT) == 36
    assert 0.10 <= len(HELD_OUT) / (len(OBJECTS) * len(COLOURS)) <= 0.15
    assert set(Counter(colour for _, colour in HELD_OUT).values()) == {3}
    assert Counter(Counter(name for name, _ in HELD_OUT).values()) == {1: 12, 2: 12}


def test_view_words_by_hand() -> None:
    assert [view_word(a, 10) for a in (0, 44, 46, 134, 136, 180, 226, 316)] == [
        "front view",
        "front view",
        "side view",
        "side view",
        "back view",
        "back view",
        "side view",
        "front view",
    ]
    assert view_word(180, 56) == "overhead view"


def test_articles() -> None:
    assert Description("owl").text == "an owl"
    assert Description("owl", "red", None, "side view").text == "a red owl, side view"
    assert "a cute owl" in captions(Description("owl"))


def test_the_description_of_the_words_lists_them_all() -> None:
    text = vocabulary.describe()
    assert all(word in text for word in (*OBJECTS, *COLOURS, *MATERIALS, *VIEW_WORDS))


def test_the_module_needs_the_standard_library_only() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('numpy', 'torch', 'numba', 'trimesh', 'scipy'))); import backend.embedded.vocabulary"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
