"""Pictures as coefficients of a basis: fitting, folding into the denoiser, drawing by the pool, and fast convolutions of them."""

from __future__ import annotations

import copy

import numpy as np
import torch

from backend.embedded import vocabulary, world
from backend.embedded.appearance import compose, description_weights
from backend.embedded.learned import model
from backend.embedded.learned.block_basis import BlockBasis
from backend.embedded.learned.dense_convolution import make_dense
from backend.embedded.learned.pools import PoolBank
from tests.backend.embedded.learned.small_world import VIEWS, random_basis, small_dataset


def test_basis_of_all_components_loses_nothing() -> None:
    pictures = small_dataset().draw(20).images
    basis = BlockBasis.fit(pictures, 8, 3 * 8 * 8)
    coefficients = basis.coefficients(pictures)
    assert coefficients.shape == (20, 192, 8, 8)
    torch.testing.assert_close(basis.pictures(coefficients), pictures, atol=1e-4, rtol=0)
    torch.testing.assert_close(coefficients.square().sum((1, 2, 3)), pictures.square().sum((1, 2, 3)), rtol=1e-4, atol=0)


def test_basis_has_the_strongest_components_first() -> None:
    pictures = small_dataset().draw(60).images
    basis = BlockBasis.fit(pictures, 8, 30)
    torch.testing.assert_close(basis.components.T @ basis.components, torch.eye(30), atol=1e-4, rtol=0)
    energy = basis.coefficients(pictures).square().mean((0, 2, 3))
    torch.testing.assert_close(energy, basis.energy, rtol=1e-3, atol=1e-4)
    assert (basis.energy.diff() <= 0).all()
    other = torch.linalg.qr(torch.randn(192, 30, generator=torch.Generator().manual_seed(0))).Q
    assert energy.sum() > BlockBasis(other, basis.energy).coefficients(pictures).square().mean((0, 2, 3)).sum()
    assert (basis.input_scale(0.3).square() * (0.3 * basis.energy + 0.7)).allclose(torch.ones(30))


def test_folded_denoiser_does_with_pixels_what_the_other_does_with_coefficients() -> None:
    torch.manual_seed(0)
    basis = random_basis()
    _, unet = model.build_models(64)
    pixels = model.pixel_denoiser(unet, basis)
    noisy, t, words = torch.randn(2, 3, 64, 64), torch.tensor([100, 800]), torch.randn(2, 16, model.TEXT_WIDTH)
    with torch.no_grad():
        scaled = basis.coefficients(noisy) * basis.input_scale(model.input_alpha_bar()).view(-1, 1, 1)
        expected = basis.pictures(unet(scaled, t, words).sample * basis.output_scale().view(-1, 1, 1))
        found = torch.pixel_shuffle(pixels(torch.pixel_unshuffle(noisy, 32), t, words).sample, 32)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    back = basis.unfold(pixels.state_dict(), model.input_alpha_bar())
    for name, value in unet.state_dict().items():
        torch.testing.assert_close(back[name], value, atol=1e-4, rtol=1e-3)


def test_dense_convolutions_compute_the_same_with_the_same_parameters() -> None:
    torch.manual_seed(0)
    _, unet = model.build_models(64)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))  # the ones that begin as zeros, too
    dense = copy.deepcopy(unet)
    make_dense(dense)
    assert not any(isinstance(module, torch.nn.Conv2d) for module in dense.modules())
    inputs = torch.randn(3, model.COMPONENTS, 2, 2), torch.tensor([5, 400, 900]), torch.randn(3, 16, model.TEXT_WIDTH)
    outputs = []
    for network in (unet, dense):
        outputs.append(network(*inputs).sample)
        outputs[-1].square().sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-4)
    slow, fast = dict(unet.named_parameters()), dict(dense.named_parameters())
    assert slow.keys() == fast.keys()
    for name, value in slow.items():
        torch.testing.assert_close(fast[name].grad, value.grad, atol=1e-3, rtol=1e-3)


def test_a_pool_has_views_of_one_description_before_one_backdrop() -> None:
    data = small_dataset()
    basis = BlockBasis.fit(data.draw(40).images, 8, 192)  # nothing left out
    pools = PoolBank(data, basis).draw(6, 5)
    assert pools.coefficients.shape == (6, 5, 192 * 64)
    assert len(pools.captions) == 6
    for coefficients, caption in zip(pools.coefficients, pools.captions, strict=True):
        pictures = (basis.pictures(coefficients.view(5, 192, 8, 8)) + 1) / 2
        background = pictures[0, :, 0, 0].numpy()
        np.testing.assert_allclose(pictures[:, :, 0, 0], background[None].repeat(5, axis=0), atol=4e-3)  # a bank in half precision
        if not caption:
            continue
        description = vocabulary.parse(caption)
        bank = world.view_bank(description.object, VIEWS, 64, distance=(world.DISTANCE, world.DISTANCE))
        true = compose(bank.channels, description_weights(description), background)
        for picture in pictures.numpy():
            distance = np.abs(true - picture).mean(axis=(1, 2, 3))
            assert distance.min() < 2e-3
            if description.view:
                nearest = distance.argmin()
                assert vocabulary.view_word(bank.azimuth[nearest], bank.elevation[nearest]) == description.view
