"""How well pictures fit a sentence: a small contrastive image-text model of the built-in world, in place of CLIP.

It is shipped, so that scores of different machines can be compared, and trained anew where the world has changed since: as CLIP is
(Radford et al. 2021), for a few minutes on the world's renders, every (object, colour) pair included: of a
batch's captions it is to find a picture's own, and the other way round. Its score is CLIP-S (Park et al. 2021), a hundred times the
cosine. It has seen nothing but the world's objects: scores compare results for prompts of the world with each other, and with no
published figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...embedded import vocabulary, world
from ...embedded.learned.classifier import Classifier, soften
from ...embedded.learned.dataset import Examples, WorldDataset
from ...embedded.learned.judges import cached_judge
from ...embedded.learned.model import RESOLUTION
from ...embedded.vocabulary import Description
from ...guidance.diffusers_prior import choose_dtype

WORDS: tuple[str, ...] = (*vocabulary.OBJECTS, *vocabulary.COLOURS, *vocabulary.MATERIALS, *vocabulary.VIEW_WORDS)
"""What captions consist of; the rest of a sentence changes nothing."""

SHIPPED = Path(__file__).with_name("weights") / "alignment.safetensors"
"""What training left in the cache of the machine that the current version of the world was first judged on."""

WIDTH, DIMENSIONS = 128, 64
"""Of the text encoder's layers, and of the space that both encoders map to."""
FEATURES = 256
"""Of the classifier's trunk."""

TRAINING_VIEWS = 300
"""Views an object in the bank: 11 MB each."""
TRAINING_IMAGES = 288_000
BATCH = 128
LEARNING_RATE = 2e-3
VIEW_NAMED = 0.5
"""Share of the captions that name the view, of those that could."""
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0
"""CLIP's: what cosines are multiplied with before the softmax, learned."""


class Alignment(nn.Module):
    """The classifier's trunk for pictures, a bag of words for sentences, and a linear map of each to one sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Sequential(Classifier().trunk, nn.Linear(FEATURES, DIMENSIONS))
        self.words = nn.EmbeddingBag(len(WORDS), WIDTH, mode="sum")
        # What words do together ("wooden" changes what "red" looks like) takes a layer between.
        self.sentence = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, DIMENSIONS))
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE).log())

    def encode_images(self, images: Tensor) -> Tensor:
        """[B, D] unit vectors of images [B, 3, 64, 64] in -1..1."""
        return F.normalize(self.picture(images).float(), dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """[B, D] unit vectors of sentences.

        Raises:
            PromptError: a sentence that the world does not understand.
        """
        bags = [_words(vocabulary.parse(text)) for text in texts]
        device = self.log_scale.device
        rows = torch.tensor([row for bag in bags for row in bag], device=device)
        starts = torch.tensor([0, *map(len, bags[:-1])], device=device).cumsum(0)
        return F.normalize(self.sentence(self.words(rows, starts)).float(), dim=1)

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied with."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)


def _words(description: Description) -> list[int]:
    """Rows of `WORDS` that were said."""
    said = (description.object, description.colour, description.material, description.view)
    return [WORDS.index(word) for word in said if word is not None]


def training_set(seed: int = 0, progress: Callable[[str], None] = lambda message: None) -> WorldDataset:
    """Pictures of every pair of object and colour."""
    return WorldDataset(TRAINING_VIEWS, np.random.default_rng(seed), held_out=frozenset(), progress=progress)


def train_alignment(
    dataset: WorldDataset, images: int | None = None, *, seed: int = 0, progress: Callable[[str], None] = lambda message: None
) -> Alignment:
    """A model of the dataset's pictures, trained on this many of them (None: `TRAINING_IMAGES`)."""
    torch.manual_seed(seed)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    arithmetic = choose_dtype("auto", dataset.device)
    model = Alignment().to(dataset.device)
    model.picture.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    steps = max(1, (images or TRAINING_IMAGES) // BATCH)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * step / steps))
        examples = dataset.draw(BATCH)
        said = [captioned(description, rng) for description in examples.descriptions]
        pictures = soften(examples.images, generator).to(memory_format=torch.channels_last)
        with torch.autocast(dataset.device.type, dtype=arithmetic, enabled=arithmetic == torch.bfloat16):
            seen = model.encode_images(pictures)
            read = model.encode_texts([caption for _, caption in said])
        loss = contrastive_loss(model.scale * seen @ read.T, fits(examples, [meant for meant, _ in said]).to(dataset.device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            progress(f"alignment: {step + 1} of {steps} steps, loss {loss.item():.3f}")
    model.picture.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return model.eval()


def captioned(description: Description, rng: np.random.Generator) -> tuple[Description, str]:
    """What a caption says, and one of its phrasings; every other one leaves the view out."""
    if rng.random() >= VIEW_NAMED:
        description = replace(description, view=None)
    phrasings = vocabulary.captions(description)
    return description, phrasings[rng.integers(len(phrasings))]


def fits(examples: Examples, said: Sequence[Description]) -> Tensor:
    """[B, B] whether a picture (row) is truly described by a caption (column), however it is put."""
    looks = [(shown.object, shown.base_colour, shown.material) for shown in examples.descriptions]
    named = [((meant.object, meant.base_colour, meant.material), meant.view) for meant in said]
    shown = zip(looks, examples.view_words, strict=True)
    return torch.tensor([[look == words and view in (None, seen) for words, view in named] for look, seen in shown])


def contrastive_loss(logits: Tensor, fitting: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy of logits [B, B], pictures by captions; own ones stand on the diagonal.

    Captions that fit a picture as well as its own, and pictures that fit a caption so, are no negatives: they are left out.
    """
    others = fitting & ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(others, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))


def retrieval_accuracy(model: Alignment, *, rounds: int = 16, captions: int = 64, seed: int = 0) -> float:
    """Share of pictures, one of each of so many looks from anywhere, whose own caption among all of theirs scores highest.

    They are rendered now, not taken from the bank that training sees. Captions name no view.
    """
    rng = np.random.default_rng(seed)
    objects, colours, materials = vocabulary.OBJECTS, tuple(vocabulary.COLOURS), (None, *vocabulary.MATERIALS)
    low, high = np.sin(np.radians(world.ELEVATIONS))
    right = 0
    for _ in range(rounds):
        looks: set[Description] = set()
        while len(looks) < captions:
            name, colour, material = (rng.integers(len(words)) for words in (objects, colours, materials))
            looks.add(Description(objects[name], colours[colour], materials[material]))
        shown = sorted(looks, key=lambda look: look.text)
        pictures = [
            world.true_views(
                look,
                rng.uniform(-180, 180, 1),
                np.degrees(np.arcsin(rng.uniform(low, high, 1))),
                rng.uniform(*world.DISTANCES, 1),
                RESOLUTION,
                np.full(3, rng.uniform(0.1, 1)),
            )[0]
            for look in shown
        ]
        with torch.no_grad():
            seen = model.encode_images(torch.from_numpy(np.concatenate(pictures)).float() * 2 - 1)
            read = model.encode_texts([look.text for look in shown])
        right += int(((seen @ read.T).argmax(1) == torch.arange(captions)).sum())
    return right / (rounds * captions)


def cached_alignment(
    *, path: Path | None = None, images: int | None = None, progress: Callable[[str], None] = lambda message: None
) -> Alignment:
    """The model of this version of the world: the shipped one; else, or with a `path`, from there or the world's cache, or trained now."""
    count = images or TRAINING_IMAGES
    return cached_judge(
        Alignment(),
        lambda: train_alignment(training_set(progress=progress), count, progress=progress),
        f"alignment-{count}",
        path,
        shipped=SHIPPED if path is None and images is None else None,
    )


@torch.no_grad()
def scores(model: Alignment, images: Tensor, prompt: str) -> np.ndarray:
    """[V] CLIP-S, a hundred times the cosine, of images [V, 3, H, W] in 0..1 and one prompt, its view words left out as for every view.

    Raises:
        PromptError: a prompt that the world does not understand.
    """
    if images.shape[-2:] != (RESOLUTION, RESOLUTION):
        images = F.interpolate(images, size=(RESOLUTION, RESOLUTION), mode="area")
    text = replace(vocabulary.parse(prompt), view=None).text
    return 100 * (model.encode_images(images * 2 - 1) @ model.encode_texts([text])[0]).cpu().numpy()
