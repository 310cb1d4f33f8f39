"""Colours and materials as weights of linear channels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.embedded.appearance import channel_weights, compose, description_weights
from backend.embedded.renderer import CHANNELS, render_channels
from backend.embedded.vocabulary import COLOURS, MATERIALS, OBJECTS, Description

LOOKS = list(itertools.product((None, *COLOURS), (None, *MATERIALS)))


def test_compose_by_hand() -> None:
    channels = np.zeros((9, 1, 2), dtype=np.float32)
    channels[CHANNELS.index("alpha"), 0] = (0.75, 0.0)
    channels[CHANNELS.index("fixed_g"), 0, 0] = 0.125
    channels[CHANNELS.index("primary"), 0, 0] = 0.5
    image = compose(channels, channel_weights("red", None), (1.0, 0.5, 0.25))
    red, green, blue = COLOURS["red"]
    assert np.allclose(image[:, 0, 0], (0.5 * red + 0.25, 0.5 * green + 0.125 + 0.125, 0.5 * blue + 0.0625))
    assert np.allclose(image[:, 0, 1], (1.0, 0.5, 0.25))


def test_bytes_count_from_0_to_252() -> None:
    channels = np.zeros((9, 1, 1), dtype=np.uint8)
    channels[0], channels[CHANNELS.index("fixed_r")] = 252, 126
    assert np.allclose(compose(channels, channel_weights(None, None), (0.3, 0.3, 0.3))[:, 0, 0], (0.5, 0, 0), atol=1e-6)


def test_compose_broadcasts_over_views() -> None:
    rng = np.random.default_rng(0)
    channels = rng.integers(0, 20, (2, 9, 3, 4), dtype=np.uint8)
    weights = np.stack([channel_weights("blue", "striped"), channel_weights(None, "golden")])
    backgrounds = rng.uniform(size=(2, 3))
    together = compose(channels, weights, backgrounds)
    for view in range(2):
        assert np.allclose(together[view], compose(channels[view], weights[view], backgrounds[view]), atol=1e-6)
    assert np.allclose(compose(channels, weights[0], backgrounds)[1], compose(channels[1], weights[0], backgrounds[1]), atol=1e-6)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_look_stays_in_range_without_clipping(name: str) -> None:
    azimuths = np.array([0.0, 77.0, 160.0, 290.0])
    channels = render_channels(name, azimuths, np.array([-10.0, 5.0, 30.0, 70.0]), np.full(4, 3.2), 32)
    for (colour, material), background in itertools.product(LOOKS, ((0, 0, 0), (1, 1, 1))):
        image = compose(channels, channel_weights(colour, material), background)
        assert image.min() > -1e-6
        assert image.max() < 1 + 1e-6


@given(st.sampled_from(LOOKS))
def test_weights_of_the_painted_surface_stay_in_range_under_any_mask(look: tuple[str | None, str | None]) -> None:
    weights = dict(zip(CHANNELS, channel_weights(*look), strict=True))
    assert (weights["alpha"] == 0).all()
    for name in ("stripes", "spots", "grain", "sheen"):
        for total in (weights["primary"], weights["primary"] + weights[name]):
            assert (total >= 0).all()
            assert (total <= 1 + 1e-6).all()


def test_materials_look_different() -> None:
    looks = [channel_weights("red", material) for material in (None, *MATERIALS)]
    for a, b in itertools.combinations(looks, 2):
        assert np.abs(a - b).max() > 0.1


def test_a_description_without_a_colour_has_its_natural_one() -> None:
    assert np.array_equal(description_weights(Description("frog")), channel_weights("green", None))
    assert np.array_equal(description_weights(Description("frog", None, "wooden")), channel_weights(None, "wooden"))
