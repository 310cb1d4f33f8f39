"""The network that is a posterior mean, against the posterior mean."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backend.embedded.learned.model import build_scheduler
from backend.embedded.pose_memory.denoiser import BLOCK, CHANNELS, MEMORY_VARIANCE, PLACES, Denoiser, Layout, blocks, evidence_weights
from backend.embedded.pose_memory.tokens import PROMPT_TOKENS, WIDTH, Told

COMPONENTS, EVIDENCE, MEMORIES = 120, 30, 40
ALPHAS_CUMPROD = build_scheduler().alphas_cumprod


@dataclass(frozen=True)
class Made:
    """A denoiser of random pictures.

    Attributes:
        model: the network.
        basis: [12288, COMPONENTS] and energy: [COMPONENTS] of the pictures' code.
        memories: [MEMORIES, COMPONENTS] codes, and chance: [MEMORIES] log probabilities.
        tokens: [1, PROMPT_TOKENS + MEMORIES, WIDTH] what the network is told, and how: told.
    """

    model: torch.nn.Module
    basis: Tensor
    memories: Tensor
    chance: Tensor
    tokens: Tensor
    told: Told

    def predict(self, z: Tensor, t: int, tokens: Tensor | None = None) -> Tensor:
        told = (self.tokens if tokens is None else tokens).expand(len(z), -1, -1)
        with torch.no_grad():
            out = self.model(F.pixel_unshuffle(z, BLOCK), torch.tensor([t]), encoder_hidden_states=told).sample
        return F.pixel_shuffle(out, BLOCK)

    def expect(self, z: Tensor, t: int, chosen: slice = slice(None)) -> Tensor:
        """The posterior mean, in double precision."""
        g1, g2 = (values[t] for values in evidence_weights(ALPHAS_CUMPROD))
        memories, basis = self.memories[chosen].double(), self.basis.double()
        compared = memories[:, :EVIDENCE]
        likeness = z.flatten(1).double() @ basis[:, :EVIDENCE] @ compared.T
        weights = (g1 * likeness - 0.5 * g2 * compared.square().sum(1) + self.chance[chosen].double()).softmax(1)
        return (weights @ memories @ basis.T).float().view_as(z)


@pytest.fixture(scope="module")
def made() -> Made:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    # Pictures whose blocks lie in a space of 60 dimensions, so that few components of a block tell all of them.
    block = torch.linalg.qr(normal(3 * BLOCK**2, 60)).Q
    mixed = torch.linalg.qr(normal(PLACES * 60, COMPONENTS)).Q.view(PLACES, 60, COMPONENTS)
    rows = torch.einsum("pb,qbk->kpq", block, mixed).unflatten(2, (2, 2))
    basis = F.pixel_shuffle(rows, BLOCK).flatten(1).T
    energy = 4000 * torch.arange(1, COMPONENTS + 1) ** -2.2  # about as the world's pictures have it
    memories = normal(MEMORIES, COMPONENTS) * energy.sqrt()
    chance = normal(MEMORIES)
    directions = torch.linalg.qr(normal(WIDTH, COMPONENTS + 3)).Q.T
    told = Told(directions[:COMPONENTS], directions[-3], directions[-2], directions[-1])
    tokens = torch.zeros(PROMPT_TOKENS + MEMORIES, WIDTH)
    tokens[:PROMPT_TOKENS] = 1.2 * told.no_memory + normal(PROMPT_TOKENS, COMPONENTS) @ told.code
    norm = -0.5 * memories[:, :EVIDENCE].square().sum(1, keepdim=True) + 300  # up to a constant
    tokens[PROMPT_TOKENS:] = memories @ told.code + norm * told.norm + chance[:, None] * told.chance
    with torch.no_grad():
        denoiser = Denoiser(basis, energy, told, ALPHAS_CUMPROD, EVIDENCE)
        denoiser.fit()
    return Made(denoiser.model, basis, memories, chance, tokens[None], told)


@pytest.mark.parametrize("t", [0, 50, 200, 400, 600, 750, 860, 950, 999])
def test_it_is_the_posterior_mean(made: Made, t: int) -> None:
    generator = torch.Generator().manual_seed(t)
    alpha_bar = ALPHAS_CUMPROD[t]
    clean = (made.memories[:16] @ made.basis.T).view(16, 3, 64, 64)
    z = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * torch.randn(clean.shape, generator=generator)
    expected = made.expect(z, t)
    error = (made.predict(z, t) - expected).square().mean()  # most of it where two memories explain z alike, and rounding decides
    assert error < 2.5e-3 * made.memories.square().sum(1).mean() / z[0].numel()


def test_where_noise_hides_everything_it_is_the_prior_mean(made: Made) -> None:
    clean = (made.memories[:16] @ made.basis.T).view(16, 3, 64, 64)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    mean = (made.chance.softmax(0) @ made.memories @ made.basis.T).view(1, 3, 64, 64)

    def distance(t: int) -> Tensor:
        alpha_bar = ALPHAS_CUMPROD[t]
        return (made.predict(alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise, t) - mean).square().mean()

    assert distance(999) < 0.7 * distance(400)


def test_a_memory_that_has_no_chance_is_never_shown(made: Made) -> None:
    tokens = made.tokens.clone()
    tokens[:, PROMPT_TOKENS + 5 :] -= 600 * made.told.chance
    alpha_bar = ALPHAS_CUMPROD[600]
    clean = (made.memories[20:21] @ made.basis.T).view(1, 3, 64, 64)
    z = alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    expected = made.expect(z, 600, slice(5))
    assert (made.predict(z, 600, tokens) - expected).square().mean() < 0.01 * expected.square().mean()
    assert (made.predict(z, 600) - expected).square().mean() > 0.1 * expected.square().mean()


def test_words_are_not_taken_for_memories(made: Made) -> None:
    other = made.tokens.clone()
    other[:, :PROMPT_TOKENS] = 1.1 * made.told.no_memory - 3 * made.told.code[0]
    z = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(made.predict(z, 500, other), made.predict(z, 500), atol=2e-4, rtol=0)


def test_the_order_of_memories_does_not_matter(made: Made) -> None:
    order = torch.randperm(MEMORIES, generator=torch.Generator().manual_seed(0)) + PROMPT_TOKENS
    shuffled = torch.cat([made.tokens[:, :PROMPT_TOKENS], made.tokens[:, order]], dim=1)
    z = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(made.predict(z, 600, shuffled), made.predict(z, 600), atol=2e-4, rtol=0)


def test_its_weights_are_halves(made: Made) -> None:
    for name, parameter in made.model.named_parameters():
        assert torch.equal(parameter, parameter.half().float()), name


def test_evidence_weighs_as_the_noise_and_the_memories_allow() -> None:
    g1, g2 = evidence_weights(ALPHAS_CUMPROD)
    alpha_bar = ALPHAS_CUMPROD.double()
    torch.testing.assert_close(g2[:700], 1 / ((1 - alpha_bar) / alpha_bar + MEMORY_VARIANCE)[:700], rtol=0.02, atol=0)
    torch.testing.assert_close((g2 / g1)[:700], alpha_bar.sqrt()[:700], rtol=0.02, atol=0)
    assert (g2[1:] <= g2[:-1]).all()
    assert g2[999] > 0.5 * g2[860] > 5 * alpha_bar[999]  # where its weight no longer falls with the picture's share


def test_channels_have_one_meaning_each() -> None:
    layout = Layout(EVIDENCE)
    used = [channel for block in range(PLACES) for channel in range(*layout.part(block).indices(CHANNELS))]
    used += range(*layout.sums.indices(CHANNELS))
    used += [channel for name in layout.ONE_SIGN for channel in layout.pair(name)] + [*layout.places, layout.nowhere]
    assert len(set(used)) == len(used)
    assert max(used) == CHANNELS - 1
    with pytest.raises(AssertionError):
        Layout(CHANNELS // 5)


def test_blocks_are_those_of_pixel_unshuffle() -> None:
    pictures = torch.randn(3 * 64 * 64, 2, generator=torch.Generator().manual_seed(0))
    parts = blocks(pictures)  # [4, 3 s s, 2]
    unshuffled = F.pixel_unshuffle(pictures.T.view(2, 3, 64, 64), BLOCK)  # [2, 3 s s, 2, 2]
    for place in range(PLACES):
        torch.testing.assert_close(parts[place].T, unshuffled[:, :, place // 2, place % 2])
