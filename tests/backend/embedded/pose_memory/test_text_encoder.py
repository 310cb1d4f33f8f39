"""The text encoder's embeddings and gates, and the regression that fits the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backend import cli
from backend.embedded import vocabulary
from backend.embedded.learned.model import build_tokenizer
from backend.embedded.pose_memory import text_encoder
from backend.embedded.pose_memory.pictures import ChannelCode, PictureCode, Poses
from backend.embedded.pose_memory.regression import Products
from backend.embedded.pose_memory.text_encoder import CODE_NORM2, GATE, IMPOSSIBLE, POSE_LOUDNESS, MemoryEncoder, principal_functions
from backend.embedded.pose_memory.tokens import CODE, COLOURS, MATERIALS, OBJECTS, POSES, PROMPT_TOKENS, TOKENS, VIEWS, WIDTH, Directions
from backend.embedded.vocabulary import Description

COMPONENTS = 100


@pytest.fixture(scope="module")
def encoder() -> MemoryEncoder:
    """With its embeddings and gates, of made-up views."""
    generator = torch.Generator().manual_seed(0)
    words = [vocabulary.VIEW_WORDS[index % 4] for index in range(POSES)]
    law, clarity = torch.randn(POSES, generator=generator), -torch.rand(POSES, generator=torch.Generator().manual_seed(1))
    poses = Poses(torch.zeros(24, POSES, 9, 4, dtype=torch.uint8), law, words, clarity)
    codes = torch.randn(24, POSES, CODE, generator=generator) / CODE**0.5
    maps, mean, weights = torch.zeros(9, 3, CODE, COMPONENTS), torch.zeros(9, 3, COMPONENTS), torch.ones(24, POSES)
    channel_code = ChannelCode(codes, maps, mean, weights, 0.0)
    picture_code = PictureCode(torch.zeros(12, COMPONENTS), torch.ones(COMPONENTS), torch.zeros(24, POSES, 9, 3, COMPONENTS))
    made = MemoryEncoder(build_tokenizer(TOKENS), poses, channel_code, picture_code, np.random.default_rng(0))
    with torch.no_grad():
        made._embed_poses()
        made._embed_words()
        made._set_gates()
    return made


def opened(encoder: MemoryEncoder, prompt: str) -> dict[str, str]:
    """Which gate of each kind every memory has opened, after checking that it is that one alone, and fully."""
    embedded = encoder._root.embeddings(encoder._ids(prompt))[0, PROMPT_TOKENS:]
    x, _ = encoder._through(0, prompt)
    names = {"object": OBJECTS, "colour": COLOURS, "material": MATERIALS, "view": VIEWS}
    result = {}
    for kind, known in names.items():
        gates = (x - embedded) @ getattr(encoder.directions, kind).T / GATE
        chosen = int(gates[0].argmax())
        wanted = torch.zeros_like(gates)
        wanted[:, chosen] = 1
        assert (gates - wanted).abs().max() < 0.06, kind
        result[kind] = known[chosen]
    return result


@pytest.mark.parametrize(
    ("prompt", "gates"),
    [
        ("a red cat", {"object": "cat", "colour": "red", "material": "", "view": ""}),
        (
            "a striped turquoise bus, overhead view",
            {"object": "bus", "colour": "turquoise", "material": "striped", "view": "overhead view"},
        ),
        ("a cat, back view", {"object": "cat", "colour": "orange", "material": "", "view": "back view"}),
        ("a spotted snowman, side view", {"object": "snowman", "colour": "white", "material": "spotted", "view": "side view"}),
        ("a wooden chair", {"object": "chair", "colour": "wooden", "material": "wooden", "view": ""}),
        ("a wooden blue chair", {"object": "chair", "colour": "blue", "material": "wooden", "view": ""}),
        ("a golden teapot, front view", {"object": "teapot", "colour": "golden", "material": "golden", "view": "front view"}),
        ("", {"object": "", "colour": "gray", "material": "", "view": ""}),
    ],
)
def test_every_memory_reads_the_prompt(encoder: MemoryEncoder, prompt: str, gates: dict[str, str]) -> None:
    assert opened(encoder, prompt) == gates


def test_some_memories_can_be_asked_without_the_others(encoder: MemoryEncoder) -> None:
    chosen = torch.tensor([3, 700, 41])
    every, _ = encoder._through(0, "a red cat, side view")
    some, _ = encoder._through(0, "a red cat, side view", chosen)
    torch.testing.assert_close(some, every[chosen], atol=2e-3, rtol=0)


def test_all_memories_begin_with_one_norm(encoder: MemoryEncoder) -> None:
    position = encoder._root.embeddings.position_embedding.weight[PROMPT_TOKENS:]
    torch.testing.assert_close(position.square().sum(1), torch.full((len(position),), 512.0), rtol=2e-3, atol=0)
    assert position.mean(1).abs().max() < 1e-3


def test_chance_is_the_law_of_photographs_among_the_views_that_are_meant(encoder: MemoryEncoder) -> None:
    free = encoder.chance(Description("cat", "red"))
    torch.testing.assert_close(free, encoder.poses.log_law - encoder.poses.log_law.mean())
    named = encoder.chance(Description("cat", "red", None, "side view"))
    is_side = torch.tensor([word == "side view" for word in encoder.poses.words])
    torch.testing.assert_close(named, free + encoder.poses.log_clarity + IMPOSSIBLE * ~is_side)


def test_poses_are_told_apart_and_lost_beside_a_code(encoder: MemoryEncoder) -> None:
    position = encoder._root.embeddings.position_embedding.weight[PROMPT_TOKENS : PROMPT_TOKENS + POSES]
    told = position @ encoder.directions.pose.T / POSE_LOUDNESS
    apart = torch.eye(POSES) - 1 / POSES  # all functions of the pose but the constant: every pose is as far from every other
    torch.testing.assert_close(told @ told.T, apart, atol=0.05, rtol=0)
    assert (position @ encoder.directions.code.T).square().sum(1).max() < 1e-3 * CODE_NORM2


def test_directions_are_orthonormal_and_without_a_mean() -> None:
    directions = Directions.draw(200)
    parts = [directions.code, *(getattr(directions, name) for name in ("colour", "material", "view", "backdrop", "law", "is_pose"))]
    parts += [getattr(directions, name) for name in ("is_start", "is_word", "colour_rank", "fill", "slack", "chance")]
    rows = torch.cat(parts)
    assert len(rows) <= WIDTH - 1
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-4, rtol=0)
    assert rows.mean(1).abs().max() < 1e-5
    inside = torch.cat([directions.object, directions.pose])  # borrowed from the code's
    torch.testing.assert_close((inside @ directions.code.T).norm(dim=1), torch.ones(len(inside)), atol=1e-4, rtol=0)
    assert torch.equal(Directions.draw(200).code, directions.code)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_regression_is_the_least_squares_solution() -> None:
    inputs, outputs = normal(500, 12), normal(500, 5, seed=1)
    weights = normal(500, seed=2).exp()
    products = Products(12, 5)
    for first in range(0, 500, 70):
        rows = slice(first, first + 70)
        products.add(inputs[rows], outputs[rows], weights[rows])
    found = products.solve(0.0)
    root = weights.sqrt()[:, None]
    torch.testing.assert_close(found.float(), torch.linalg.lstsq(root * inputs, root * outputs).solution, atol=1e-4, rtol=1e-4)
    errors = (inputs.double() @ found - outputs).square().sum(1)
    error = ((weights * errors).sum() / weights.sum()).item()
    assert products.residual(found) == pytest.approx(error, rel=1e-4)
    shrunk = products.solve(0.1)
    assert shrunk.norm() < found.norm()
    assert products.residual(shrunk) > error


def test_principal_functions_tell_most_where_errors_count() -> None:
    codes, weights = normal(40, 25) + 3, normal(40, seed=1).exp()
    functions, singular = principal_functions(codes, weights)
    root = weights.sqrt()[:, None]

    def left_out(known: Tensor) -> float:
        known = root * torch.cat([torch.ones(40, 1), known], dim=1)
        return (root * codes - known @ torch.linalg.lstsq(known, root * codes).solution).square().sum().item()

    assert left_out(functions[:, :6]) == pytest.approx(singular[6:].square().sum().item(), rel=1e-3)
    evenly, _ = principal_functions(codes, torch.ones(40))
    assert left_out(functions[:, :6]) < 0.98 * left_out(evenly[:, :6])


def test_a_folder_that_is_not_the_commands_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert cli.main(["fit-prior", "--export", str(tmp_path)], inside=True) != 0
    assert "is not replaced" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_command_makes_a_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hundredth of the prompts it knows the world less well; the way is the same."""
    from backend.embedded.pose_memory import fit
    from backend.guidance.diffusers_prior import load_diffusers_prior

    monkeypatch.setattr(fit, "CODE_PICTURES", 800)
    monkeypatch.setattr(text_encoder, "PROMPTS_AN_OBJECT", 8)
    monkeypatch.setattr(text_encoder, "ROWS_A_PROMPT", 60)
    assert cli.main(["fit-prior", "--export", str(tmp_path / "prior")], inside=True) == 0
    prior = load_diffusers_prior(tmp_path / "prior", device=torch.device("cpu"))
    conditioning = prior.encode_prompts(["a red cat, front view"])
    z = normal(1, 3, 64, 64)
    with torch.no_grad():
        clean = (
            z - (1 - prior.alphas_cumprod[999]).sqrt() * prior.predict_noise(z, torch.tensor([999]), conditioning)
        ) / prior.alphas_cumprod[999].sqrt()
    middle = clean[0, :, 24:40, 24:40].mean((1, 2))
    assert middle[0] > middle[1] + 0.2  # red where the cat is
    assert middle[0] > middle[2] + 0.2
