"""A small convolutional network that names what a picture of the built-in world shows: object, colour, material, view word.

It is the judge of the learned prior's samples. It is trained for a few minutes on the same renders, every (object,
colour) pair included, slightly blurred and noisy so that a sample's softness alone does not mislead it. Its own
accuracy on the world's pictures is the ceiling of what it can grant (a camera at 44 degrees is in front, one at 46 beside).
These are of the views that it learned from, in other colours and before other backdrops.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...guidance.diffusers_prior import choose_dtype
from .. import vocabulary
from .dataset import Examples, WorldDataset
from .judges import cached_judge

ANSWERS: dict[str, tuple[str, ...]] = {
    "object": vocabulary.OBJECTS,
    "colour": tuple(vocabulary.COLOURS),
    "material": ("plain", *vocabulary.MATERIALS),
    "view": vocabulary.VIEW_WORDS,
}
"""The questions and their possible answers."""

TRAINING_IMAGES = 256_000
BATCH = 64
LEARNING_RATE = 2e-3
_NOT_ASKED = -100
"""Label of what has no answer: the colour of a wooden or golden object of no named colour."""


class Classifier(nn.Module):
    """Strided convolutions down to 4 x 4, where what is left or right of what still shows, and one linear head a question."""

    def __init__(self) -> None:
        super().__init__()

        def convolution(before: int, after: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]

        self.trunk = nn.Sequential(
            *convolution(3, 32, 2),
            *convolution(32, 64, 2),
            *convolution(64, 64, 1),
            *convolution(64, 128, 2),
            *convolution(128, 128, 1),
            *convolution(128, 128, 2),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(128 * 16, 256),
            nn.ReLU(inplace=True),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(answers)) for name, answers in ANSWERS.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits [B, answers] of each question, for images [B, 3, 64, 64] in -1..1."""
        features = self.trunk(images)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def name(self, images: Tensor) -> list[dict[str, str]]:
        """The likeliest answers for images [B, 3, 64, 64] in 0..1."""
        logits = self(images * 2 - 1)
        chosen = {name: values.argmax(1).tolist() for name, values in logits.items()}
        return [{name: ANSWERS[name][chosen[name][row]] for name in ANSWERS} for row in range(len(images))]


def labels(examples: Examples) -> dict[str, Tensor]:
    """[B] index of the true answer to each question, `_NOT_ASKED` where there is none."""
    truth: dict[str, list[int]] = {name: [] for name in ANSWERS}
    for description, view in zip(examples.descriptions, examples.view_words, strict=True):
        colour = description.base_colour
        truth["object"].append(ANSWERS["object"].index(description.object))
        truth["colour"].append(ANSWERS["colour"].index(colour) if colour else _NOT_ASKED)
        truth["material"].append(ANSWERS["material"].index(description.material or "plain"))
        truth["view"].append(ANSWERS["view"].index(view))
    return {name: torch.tensor(values) for name, values in truth.items()}


def train_classifier(
    dataset: WorldDataset, images: int | None = None, *, seed: int = 0, progress: Callable[[str], None] = lambda message: None
) -> Classifier:
    """A classifier of the dataset's pictures, trained on this many of them (None: `TRAINING_IMAGES`)."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    arithmetic = choose_dtype("auto", dataset.device)
    model = Classifier().to(dataset.device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    steps = max(1, (images or TRAINING_IMAGES) // BATCH)
    for step in range(steps):
        share = step / steps
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 50) * 0.5 * (1 + np.cos(np.pi * share))
        examples = dataset.draw(BATCH)
        pictures = soften(examples.images, generator).to(memory_format=torch.channels_last)
        with torch.autocast(dataset.device.type, dtype=arithmetic, enabled=arithmetic == torch.bfloat16):
            logits = {name: values.float() for name, values in model(pictures).items()}
        truth = {name: values.to(dataset.device) for name, values in labels(examples).items()}
        loss = torch.stack([F.cross_entropy(logits[name], truth[name], ignore_index=_NOT_ASKED) for name in ANSWERS]).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            progress(f"classifier: {step + 1} of {steps} steps, loss {loss.item():.3f}")
    return model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def accuracy(model: Classifier, dataset: WorldDataset, images: int = 2048) -> dict[str, float]:
    """Share of right answers to each question on pictures that are drawn now."""
    right, asked = dict.fromkeys(ANSWERS, 0), dict.fromkeys(ANSWERS, 0)
    for _ in range(max(1, images // BATCH)):
        examples = dataset.draw(BATCH)
        with torch.no_grad():
            logits = model(examples.images)
        for name, truth in labels(examples).items():
            has_answer = truth != _NOT_ASKED
            right[name] += int((logits[name].argmax(1).cpu() == truth)[has_answer].sum())
            asked[name] += int(has_answer.sum())
    return {name: right[name] / max(asked[name], 1) for name in ANSWERS}


def cached_classifier(
    dataset: WorldDataset, *, path: Path | None = None, progress: Callable[[str], None] = lambda message: None
) -> Classifier:
    """The classifier of this version of the world that learns from as many views, from `path` (a place in the world's cache if None), or
    trained now and kept there."""
    name = f"classifier-{TRAINING_IMAGES}-{dataset.views}"
    judge = cached_judge(Classifier(), lambda: train_classifier(dataset, progress=progress), name, path)
    return judge.to(dataset.device)


def soften(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every second batch at half to full sharpness, all with a little noise."""
    if torch.rand((), generator=generator) < 0.5:
        size = int(torch.randint(32, 64, (), generator=generator))
        small = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
        images = F.interpolate(small, size=images.shape[-2:], mode="bilinear")
    strength = 0.1 * torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = strength * torch.randn(images.shape, generator=generator)
    return images + noise.to(images.device)
