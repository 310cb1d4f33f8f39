"""What the pose memory remembers, in linear codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.embedded import vocabulary, world
from backend.embedded.appearance import compose, description_weights
from backend.embedded.pose_memory.pictures import (
    BACKDROPS,
    ChannelCode,
    PictureCode,
    Poses,
    draw_description,
    draw_pictures,
    log_clarity,
    paints,
    picture,
)
from backend.embedded.renderer import CHANNELS
from backend.embedded.vocabulary import Description

PICTURES = 150
DESCRIPTIONS = [
    Description("cat", "red"),
    Description("duck", "blue", "striped", "side view"),
    Description("robot", None, "golden"),
    Description("mug", "black", "golden"),
    Description("pig"),
]


def row(description: Description) -> int:
    return vocabulary.OBJECTS.index(description.object)


@pytest.mark.parametrize("description", DESCRIPTIONS)
@pytest.mark.parametrize("backdrop", BACKDROPS)
def test_a_picture_is_what_the_world_shows(poses: Poses, description: Description, backdrop: float) -> None:
    channels = poses.channels[row(description)]
    shown = compose(channels.unflatten(2, (64, 64)).numpy(), description_weights(description), (backdrop,) * 3)
    given = picture(channels, description, backdrop).view(-1, 3, 64, 64)
    np.testing.assert_allclose(given.numpy(), shown * 2 - 1, atol=1e-5)


def test_poses_keep_the_cameras_law_and_words(poses: Poses) -> None:
    cameras = world.bank_cameras(len(poses), (world.DISTANCE, world.DISTANCE))
    assert poses.words == [vocabulary.view_word(azimuth, elevation) for azimuth, elevation, _ in cameras]
    assert torch.exp(poses.log_law).mean() == pytest.approx(1, abs=1e-5)
    frontal = np.abs(cameras[:, 0]) < 45
    assert poses.log_law[frontal].min() > poses.log_law[np.abs(cameras[:, 0]) > 135].max()


def test_a_word_is_clear_far_from_where_it_ends() -> None:
    def share(azimuth: float, elevation: float) -> float:
        return float(log_clarity(np.array([azimuth]), np.array([elevation])).exp())

    assert share(0, 10) == pytest.approx(1, abs=1e-3)
    assert share(44.9, 10) == pytest.approx(0.5, abs=0.03)  # half of what is around is a side view
    assert share(-45.1, 10) == pytest.approx(0.5, abs=0.03)
    assert share(37, 10) == pytest.approx(0.84, abs=0.03)  # a standard deviation from the edge
    assert share(90, 55.1) == pytest.approx(0.5, abs=0.1)  # views end at 72 degrees
    assert 0.8 < share(90, 68) < 1


def test_there_is_a_paint_for_every_description() -> None:
    every = {(paint.colour, paint.material) for paint in paints()}
    assert len(every) == len(paints()) == 12 * 5 + 2
    assert {(description.base_colour, description.material) for description in DESCRIPTIONS} <= every


def test_nothing_is_fitted_to_a_pair_that_is_held_out() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_description(rng) for _ in range(4000)]
    assert not any(description.is_held_out for description in drawn)
    assert Description(*sorted(vocabulary.HELD_OUT)[0]).is_held_out
    assert {description.object for description in drawn} == set(vocabulary.OBJECTS)
    assert {description.material for description in drawn} == {None, *vocabulary.MATERIALS}
    assert {description.colour for description in drawn} == {None, *vocabulary.COLOURS}


@pytest.fixture(scope="module")
def picture_code(poses: Poses) -> PictureCode:
    return PictureCode.fit(poses, 40, *draw_pictures(poses, PICTURES, np.random.default_rng(0)))


def told(poses: Poses, picture_code: PictureCode, code: ChannelCode, description: Description, backdrop: float) -> tuple[Tensor, Tensor]:
    """[P, 40] picture codes as the channel codes tell them, and as they are."""
    return code.tells(description, backdrop) + picture_code.of_nothing(backdrop), picture_code.of(description, backdrop)


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_the_channel_code_of_all_components_is_exact(poses: Poses, picture_code: PictureCode, description: Description) -> None:
    code = ChannelCode.fit(poses, picture_code, 287)  # of 288 views
    for backdrop in BACKDROPS:
        given, wanted = told(poses, picture_code, code, description, backdrop)
        torch.testing.assert_close(given, wanted, atol=0.05, rtol=0)  # of a norm of about 60
    assert code.left_out == pytest.approx(0, abs=1e-5)
    assert code.codes.square().sum(2).mean() == pytest.approx(1, abs=1e-4)


def test_what_the_channel_code_leaves_out_is_told(poses: Poses, picture_code: PictureCode) -> None:
    code = ChannelCode.fit(poses, picture_code, 60)
    assert 1e-4 < code.left_out < 0.1
    assert ChannelCode.fit(poses, picture_code, 100).left_out < 0.8 * code.left_out
    errors = []
    for name in vocabulary.OBJECTS:
        for colour in vocabulary.COLOURS:
            for backdrop in BACKDROPS:
                given, wanted = told(poses, picture_code, code, Description(name, colour), backdrop)
                errors.append((given - wanted).square().sum(1).mean().item() / len(picture_code.basis))
    assert np.mean(errors) == pytest.approx(code.left_out, rel=0.4)  # which counts materials, too


def test_functionals_tell_most_of_what_a_table_makes(poses: Poses, picture_code: PictureCode) -> None:
    code = ChannelCode.fit(poses, picture_code, 100)
    table = torch.zeros(len(CHANNELS), 3)
    table[CHANNELS.index("primary")] = torch.tensor([0.8, 0.1, -0.3])
    functionals, energy = code.reads(table)
    codes = code.codes.flatten(0, 1)
    read = codes @ functionals[:20].T  # [N, 20]
    torch.testing.assert_close(read.std(0), torch.ones(20), atol=0.1, rtol=0)
    shown = codes @ torch.einsum("cr,crkj->kj", table, code.maps)
    rest = shown - read @ torch.linalg.lstsq(read, shown).solution
    best = torch.linalg.svdvals(shown - shown.mean(0)).square()
    assert rest.square().sum() <= 1.1 * best[20:].sum() + 1e-3
    assert energy.sum().item() == pytest.approx(best.sum().item() / len(codes), rel=0.1)
    assert (energy[:-1] >= energy[1:]).all()


def test_the_picture_code_is_the_picture_in_its_basis(poses: Poses) -> None:
    code = PictureCode.fit(poses, 40, *draw_pictures(poses, PICTURES, np.random.default_rng(0)))
    torch.testing.assert_close(code.basis.T @ code.basis, torch.eye(40), atol=1e-4, rtol=0)
    for description in DESCRIPTIONS:
        for backdrop in BACKDROPS:
            wanted = picture(poses.channels[row(description)], description, backdrop) @ code.basis
            torch.testing.assert_close(code.of(description, backdrop), wanted, atol=2e-3, rtol=1e-4)
            apart = wanted - torch.full((1, 3 * 64 * 64), 2 * backdrop - 1) @ code.basis
            contrast = code.contrast(description, backdrop)
            torch.testing.assert_close(contrast, apart.square().mean(1) * 40 / (3 * 64 * 64), atol=1e-5, rtol=1e-3)  # as far as codes agree


def test_the_picture_code_tells_its_pictures_as_well_as_any_of_its_size(poses: Poses) -> None:
    pictures, weights = draw_pictures(poses, PICTURES, np.random.default_rng(0))
    code = PictureCode.fit(poses, 40, pictures, weights)
    assert pictures.dtype == torch.float16
    pictures = pictures.float()
    rest = (pictures - pictures @ code.basis @ code.basis.T).square().sum(1)
    best = torch.linalg.svdvals(pictures * weights.sqrt()[:, None])[40:].square().sum().item()
    assert (weights * rest).sum() == pytest.approx(best, rel=1e-3)
    assert code.energy.sum() * PICTURES + rest.sum() == pytest.approx(pictures.square().sum().item(), rel=1e-4)
    counted = (weights[:, None] * (pictures @ code.basis).square()).mean(0)
    assert (counted[:-1] >= counted[1:] * (1 - 1e-4)).all()


def test_faint_pictures_and_those_from_above_count_more(poses: Poses) -> None:
    overhead = [word == "overhead view" for word in poses.words]
    assert any(overhead)
    above, below = overhead.index(True), overhead.index(False)
    weights = poses.weights(torch.tensor([0.0, 0.1, 0.3, 0.3]), torch.tensor([below, below, below, above]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5, 0.25, 0.5]))
