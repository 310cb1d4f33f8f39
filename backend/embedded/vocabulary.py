"""The words of the built-in world: what can be asked for, how it may be said, and how a sentence is understood.

Standard library only, so that the command line and the Blender panel can check a prompt before anything heavy is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from ..errors import PromptError
from ..view_words import VIEW_DIRECTIONS, view_direction

OBJECTS: tuple[str, ...] = (
    "cat",
    "dog",
    "bear",
    "rabbit",
    "pig",
    "lion",
    "elephant",
    "monkey",
    "frog",
    "owl",
    "penguin",
    "duck",
    "car",
    "bus",
    "train",
    "airplane",
    "boat",
    "chair",
    "television",
    "mug",
    "teapot",
    "house",
    "robot",
    "snowman",
)
"""Every object; each has a model in `shapes`."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.08, 0.08),
    "orange": (0.95, 0.50, 0.05),
    "yellow": (0.95, 0.85, 0.10),
    "green": (0.10, 0.60, 0.15),
    "turquoise": (0.10, 0.72, 0.70),
    "blue": (0.10, 0.20, 0.85),
    "purple": (0.50, 0.12, 0.65),
    "pink": (0.98, 0.55, 0.72),
    "brown": (0.42, 0.25, 0.12),
    "white": (0.95, 0.95, 0.95),
    "gray": (0.50, 0.50, 0.52),
    "black": (0.13, 0.13, 0.15),
}
"""Display-space RGB of each colour."""

MATERIALS: tuple[str, ...] = ("striped", "spotted", "wooden", "golden")
"""Patterns (in the named colour) and materials (with a colour of their own, which a named colour replaces)."""

COLOURLESS_MATERIALS: tuple[str, ...] = ("wooden", "golden")
"""Materials that have a colour of their own when the prompt names none."""

VIEW_WORDS: tuple[str, ...] = tuple(f"{direction} view" for direction in VIEW_DIRECTIONS)

NATURAL_COLOURS: dict[str, str] = {
    "cat": "orange",
    "dog": "brown",
    "bear": "brown",
    "rabbit": "white",
    "pig": "pink",
    "lion": "yellow",
    "elephant": "gray",
    "monkey": "brown",
    "frog": "green",
    "owl": "brown",
    "penguin": "black",
    "duck": "yellow",
    "car": "red",
    "bus": "yellow",
    "train": "green",
    "airplane": "white",
    "boat": "red",
    "chair": "brown",
    "television": "gray",
    "mug": "turquoise",
    "teapot": "blue",
    "house": "white",
    "robot": "gray",
    "snowman": "white",
}
"""The colour an object has when the prompt names none."""

_SYNONYMS: dict[str, str] = {
    "kitten": "cat",
    "kitty": "cat",
    "tomcat": "cat",
    "tabby": "striped cat",
    "puppy": "dog",
    "hound": "dog",
    "doggy": "dog",
    "teddy": "bear",
    "teddy bear": "bear",
    "bear cub": "bear",
    "bunny": "rabbit",
    "bunny rabbit": "rabbit",
    "hare": "rabbit",
    "piglet": "pig",
    "hog": "pig",
    "lion cub": "lion",
    "ape": "monkey",
    "suzanne": "monkey",
    "monkey head": "monkey",
    "chimp": "monkey",
    "toad": "frog",
    "duckling": "duck",
    "rubber duck": "duck",
    "automobile": "car",
    "sedan": "car",
    "coach": "bus",
    "school bus": "bus",
    "locomotive": "train",
    "steam train": "train",
    "steam engine": "train",
    "steam locomotive": "train",
    "plane": "airplane",
    "aeroplane": "airplane",
    "aircraft": "airplane",
    "ship": "boat",
    "tugboat": "boat",
    "fishing boat": "boat",
    "steamboat": "boat",
    "seat": "chair",
    "tv": "television",
    "tv set": "television",
    "television set": "television",
    "telly": "television",
    "cup": "mug",
    "coffee mug": "mug",
    "coffee cup": "mug",
    "tea cup": "mug",
    "teacup": "mug",
    "tea pot": "teapot",
    "cottage": "house",
    "home": "house",
    "android": "robot",
    "snow man": "snowman",
    "grey": "gray",
    "silver": "gray",
    "violet": "purple",
    "lilac": "purple",
    "crimson": "red",
    "scarlet": "red",
    "teal": "turquoise",
    "cyan": "turquoise",
    "rose": "pink",
    "amber": "orange",
    "stripy": "striped",
    "stripey": "striped",
    "stripes": "striped",
    "stripe": "striped",
    "spotty": "spotted",
    "spots": "spotted",
    "dotted": "spotted",
    "dots": "spotted",
    "polka dot": "spotted",
    "polka dots": "spotted",
    "polka dotted": "spotted",
    "dappled": "spotted",
    "wood": "wooden",
    "timber": "wooden",
    "gold": "golden",
    "metallic": "golden",
    "view from the front": "front view",
    "view from the side": "side view",
    "view from behind": "back view",
    "view from the back": "back view",
    "view from above": "overhead view",
    "seen from the front": "front view",
    "seen from the side": "side view",
    "seen from behind": "back view",
    "seen from above": "overhead view",
    "from the front": "front view",
    "from the side": "side view",
    "from behind": "back view",
    "from the back": "back view",
    "from above": "overhead view",
    "profile view": "side view",
    "rear view": "back view",
    "top view": "overhead view",
    "bird's eye view": "overhead view",
}
"""Other ways to say a known word; keys of several words are matched before shorter ones."""

# fmt: off
_FILLERS = frozenset(
    [
        "a", "an", "the", "one", "of", "in", "and", "with", "made", "from", "out", "3d", "2d", "dslr", "hd", "4k", "8k",
        "photo", "photograph", "picture", "image", "render", "rendering", "rendered", "model", "figure", "figurine",
        "statue", "toy", "cartoon", "clay", "plush", "cute", "little", "small", "big", "large", "tiny", "beautiful",
        "nice", "lovely", "funny", "adorable", "single", "simple", "detailed", "highly", "high", "low", "poly",
        "quality", "realistic", "photorealistic", "colored", "coloured", "painted", "color", "colour", "shot", "studio",
        "lighting", "asset", "object", "full", "body", "whole", "professional", "wide", "angle", "standing", "sitting",
        "isolated", "very", "masterpiece", "best", "pattern", "on", "at", "to", "it", "its", "is", "that", "this", "my", "has",
    ]
)
# fmt: on
"""Words that a prompt may contain and that change nothing."""

_BACKGROUND = re.compile(r"\b(?:on|in|with|against|before|over)\s+(?:a |an |the )?(?:[\w-]+ ){0,2}background\b")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_MAX_LENGTH = 1000
_REMEDY = "Use words of the built-in world, or choose another image model: a diffusers folder, a .safetensors file or a hub id."


@dataclass(frozen=True)
class Description:
    """What a prompt asks for.

    Attributes:
        object: one of `OBJECTS`.
        colour: a key of `COLOURS`, or None if none was named.
        material: one of `MATERIALS`, or None.
        view: one of `VIEW_WORDS`, or None.
    """

    object: str
    colour: str | None = None
    material: str | None = None
    view: str | None = None

    @property
    def base_colour(self) -> str | None:
        """The named colour, else the object's natural one; None for a wooden or golden object of no named colour."""
        if self.colour is None and self.material in COLOURLESS_MATERIALS:
            return None
        return self.colour or NATURAL_COLOURS[self.object]

    @property
    def is_held_out(self) -> bool:
        """Whether its object and the colour that is shown, named or natural, are a pair of `HELD_OUT`."""
        return (self.object, self.base_colour) in HELD_OUT

    @property
    def noun_phrase(self) -> str:
        """The canonical words without article and view, e.g. `striped orange cat`."""
        return " ".join(word for word in (self.material, self.colour, self.object) if word)

    @property
    def text(self) -> str:
        """The canonical sentence, e.g. `an orange cat, front view`; `parse` gives this description back."""
        return _with_view(f"{_article(self.noun_phrase)} {self.noun_phrase}", self.view)


def _held_out() -> frozenset[tuple[str, str]]:
    """36 of the 288 pairs: one or two colours an object, three objects a colour."""
    colours, count = tuple(COLOURS), len(COLOURS)
    pairs = set()
    for i, name in enumerate(OBJECTS):
        pairs.add((name, colours[(5 * i + 1) % count]))
        if i % 2 == 0:
            pairs.add((name, colours[(5 * i + 7 + i // count) % count]))
    return frozenset(pairs)


HELD_OUT: frozenset[tuple[str, str]] = _held_out()
"""(object, colour) pairs that a learned prior never sees in training, to measure whether it combines words."""


def view_word(azimuth: float, elevation: float) -> str:
    """The view word of a camera direction, degrees."""
    return f"{view_direction(azimuth, elevation)} view"


CAPTION_TEMPLATES: tuple[str, ...] = (
    "{a} {}",
    "{}",
    "a photo of {a} {}",
    "a 3d render of {a} {}",
    "a picture of {a} {}",
    "{a} cute {}",
    "a 3d model of {a} {}",
)
"""Phrasings of a caption; `{}` stands for the noun phrase and `{a}` for its article."""


def captions(description: Description) -> tuple[str, ...]:
    """Every phrasing of a description, with its view word appended where it has one; each parses back to it."""
    phrase = description.noun_phrase
    return tuple(_with_view(_phrase(template, phrase), description.view) for template in CAPTION_TEMPLATES)


def _phrase(template: str, phrase: str) -> str:
    return template.format(phrase, a=_article("cute" if "cute" in template else phrase))


def _article(phrase: str) -> str:
    return "an" if phrase[0] in "aeiou" else "a"


def _with_view(sentence: str, view: str | None) -> str:
    return f"{sentence}, {view}" if view else sentence


def parse(text: str) -> Description:
    """Understands a prompt such as `a DSLR photo of a stripy orange kitten, front view`.

    Case, punctuation, articles, plurals and photographers' fillers do not matter; a remark on the background is dropped.
    Of several view words the last one counts, because the optimiser appends its own.

    Raises:
        PromptError: empty or over-long text, no known object, words that the world does not know (with the nearest
            known ones), or two different objects, colours or materials.
    """
    if not text.strip():
        raise PromptError("The prompt is empty.", remedy='Say what to make, for example "an orange cat".')
    if len(text) > _MAX_LENGTH:
        raise PromptError(f"The prompt has {len(text)} characters; the built-in world reads {_MAX_LENGTH}.", remedy="Say it shorter.")
    found, unknown = _read(text)
    if unknown:
        raise PromptError(_unknown_message(unknown), remedy=_REMEDY)
    found["view"] = found["view"][-1:]
    for kind, values in found.items():
        if len(values) > 1:
            raise PromptError(
                f"The built-in world understands one {kind} at a time, and the prompt names {_listed(values)}.",
                remedy=f"Keep one {kind}. {_REMEDY}",
            )
    if not found["object"]:
        raise PromptError("The prompt names no object of the built-in world.", remedy=f"Known objects: {', '.join(OBJECTS)}. {_REMEDY}")
    return Description(**{kind: values[0] if values else None for kind, values in found.items()})  # type: ignore[arg-type]


def unknown_words(text: str) -> dict[str, tuple[str, ...]]:
    """{word: known words that resemble it, the nearest first} of every word of a prompt that `parse` refuses, in its order."""
    return {word: tuple(_nearest(word)) for word in _read(text[:_MAX_LENGTH])[1]}


def _read(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """({kind: canonical words}, unknown words) of a prompt, each in the order of the prompt."""
    words = _WORD.findall(
        _BACKGROUND.sub(" ", text.casefold().replace("-", " ").replace("_", " ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    )
    found: dict[str, list[str]] = {"object": [], "colour": [], "material": [], "view": []}
    unknown: list[str] = []
    while words:
        for length in range(min(4, len(words)), 0, -1):
            known = _lookup(" ".join(words[:length]))
            if known is not None:
                for kind, word in known:
                    found[kind] = [*(other for other in found[kind] if other != word), word]
                break
        else:
            length = 1
            if words[0] not in _FILLERS:
                unknown.append(words[0])
        del words[:length]
    return found, unknown


_KINDS: dict[str, str] = (
    dict.fromkeys(OBJECTS, "object")
    | dict.fromkeys(COLOURS, "colour")
    | dict.fromkeys(MATERIALS, "material")
    | dict.fromkeys(VIEW_WORDS, "view")
)


def _lookup(phrase: str) -> list[tuple[str, str]] | None:
    """(kind, canonical word) of a known phrase; `tabby` stands for two words. None if it is not known."""
    for form in _singulars(phrase):
        if form in _KINDS:
            return [(_KINDS[form], form)]
        if form in _SYNONYMS:
            canonical = _SYNONYMS[form]
            return [(_KINDS[word], word) for word in ((canonical,) if canonical in _KINDS else canonical.split())]
    return None


def _singulars(phrase: str) -> list[str]:
    """The phrase and what it may be the plural of."""
    forms = [phrase]
    if phrase.endswith("men"):
        forms.append(phrase[:-3] + "man")
    if phrase.endswith("ies"):
        forms.append(phrase[:-3] + "y")
    if phrase.endswith("es"):
        forms.append(phrase[:-2])
    if phrase.endswith("s"):
        forms.append(phrase[:-1])
    return forms


def _nearest(word: str) -> list[str]:
    """Up to three known words that resemble a word."""
    return get_close_matches(word, [*_KINDS, *(key for key in _SYNONYMS if " " not in key)], n=3, cutoff=0.6)


def _unknown_message(unknown: list[str]) -> str:
    near = sorted({match for word in unknown for match in _nearest(word)})
    message = f"The built-in world does not know {_listed([repr(word) for word in dict.fromkeys(unknown)])}."
    return f"{message} The nearest words it knows: {', '.join(near)}." if near else f"{message} Objects it knows: {', '.join(OBJECTS)}."


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def describe() -> str:
    """The vocabulary as text, for the `words` command."""
    return "\n".join(
        (
            f"objects:    {', '.join(OBJECTS)}",
            f"colours:    {', '.join(COLOURS)}",
            f"materials:  {', '.join(MATERIALS)}",
            f"views:      {', '.join(VIEW_WORDS)}",
            'example:    "a striped orange cat", "a golden teapot, side view"',
            f"Also understood: {', '.join(key for key, value in _SYNONYMS.items() if value in OBJECTS)}.",
        )
    )
