"""Help with the words of the built-in image model. No bpy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ...backend.embedded import vocabulary
from ...backend.errors import PromptError


@dataclass(frozen=True)
class Hint:
    """What stands below the prompt.

    Attributes:
        message: what the built-in model cannot do with it; empty where all is well.
        suggestions: (word of the prompt, known words near it) of each unknown word.
        understood: what it will make, in its own words; empty where it cannot.
    """

    message: str = ""
    suggestions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    understood: str = ""


@lru_cache(maxsize=128)
def hint(prompt: str) -> Hint:
    """What to say about a prompt; nothing about an empty one."""
    if not prompt.strip():
        return Hint()
    try:
        return Hint(understood=vocabulary.parse(prompt).text)
    except PromptError as error:
        unknown = vocabulary.unknown_words(prompt)
        if not unknown:
            return Hint(error.message)
        listed = ", ".join(f"“{word}”" for word in unknown)
        plural = "these words" if len(unknown) > 1 else "the word"
        return Hint(f"The built-in model does not know {plural} {listed}.", tuple((word, near) for word, near in unknown.items() if near))


def replaced(prompt: str, word: str, by: str) -> str:
    """The prompt with every occurrence of a whole word replaced; the article before it agrees with the new word."""

    def substitute(match: re.Match[str]) -> str:
        article = match["article"]
        if not article:
            return by
        new = "an" if by[0] in "aeiou" else "a"
        return f"{new.capitalize() if article[0].isupper() else new}{match['space']}{by}"

    pattern = rf"(?:\b(?P<article>an?)(?P<space>\s+))?(?<![^\W_]){re.escape(word)}(?![^\W_])"
    return re.sub(pattern, substitute, prompt, flags=re.IGNORECASE)


def with_word(prompt: str, word: str) -> str:
    """The prompt with a word of the vocabulary added; it takes the place of a word of its kind."""
    try:
        known = vocabulary.parse(prompt)
    except PromptError:
        text = f"{prompt.rstrip()} {word}".strip()
        return text if prompt.strip() else f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
    changes = {
        kind: word
        for kind, words in (("object", vocabulary.OBJECTS), ("colour", tuple(vocabulary.COLOURS)), ("material", vocabulary.MATERIALS))
        if word in words
    }
    return vocabulary.Description(
        object=changes.get("object", known.object),
        colour=changes.get("colour", known.colour),
        material=changes.get("material", known.material),
        view=known.view,
    ).text


MENU = (("Objects", vocabulary.OBJECTS), ("Colours", tuple(vocabulary.COLOURS)), ("Materials", vocabulary.MATERIALS))
"""(heading, words) of the menu of everything that can be asked for."""
