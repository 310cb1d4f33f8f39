"""The quantised view space."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.cameras import orbit_position
from backend.config import GridConfig
from backend.errors import ConfigError
from backend.method.view_grid import ViewGrid, orbit

DEFAULT = ViewGrid(12, (-10.0, 10.0, 30.0, 60.0), (3.1, 3.5))


@st.composite
def grids(draw):
    elevations = draw(st.lists(st.integers(-90, 90), min_size=2, max_size=5, unique=True))
    distances = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4, unique=True))
    return ViewGrid(draw(st.integers(3, 14)), tuple(map(float, sorted(elevations))), tuple(map(float, sorted(distances))))


def test_default_grid():
    grid = ViewGrid.from_config(GridConfig(), distance=(3.1, 3.5))
    assert grid == DEFAULT
    assert len(grid) == 12 * 3 * 1
    assert grid.bounds(0) == ((-15, 15), (-10, 10), (3.1, 3.5))  # the first cell is centred on the front
    np.testing.assert_allclose(grid.centers[0], (0, 0, 3.3))
    np.testing.assert_allclose(grid.centers[12 + 3], (90, 20, 3.3))
    np.testing.assert_allclose(grid.centers[35], (330, 45, 3.3))


def test_configured_distances_replace_the_recommended_one():
    grid = ViewGrid.from_config(GridConfig(distance_edges=(2.0, 3.0, 4.0)), distance=(3.1, 3.5))
    assert grid.distance_edges == (2, 3, 4)
    assert len(grid) == 72


def test_regions_of_known_cameras():
    assert DEFAULT.region_of(0, 0, 3.3) == 0
    assert DEFAULT.region_of(360, 0, 3.3) == DEFAULT.region_of(-360, 0, 3.3) == 0
    assert DEFAULT.region_of(-14.9, 9.9, 3.3) == 0
    assert DEFAULT.region_of(-15.1, 0, 3.3) == DEFAULT.region_of(344.9, 0, 3.3) == 11
    assert DEFAULT.region_of(15, 10, 3.3) == DEFAULT.index(1, 1)  # lower edges belong to the cell
    assert DEFAULT.region_of(0, 60, 3.5) == DEFAULT.index(0, 2)  # the outermost upper ones too
    assert DEFAULT.region_of(0, -80, 99) == DEFAULT.index(0, 0)  # outside: the nearest
    assert DEFAULT.region_of(0, 89, 0.1) == DEFAULT.index(0, 2)


def test_a_shell_may_have_no_thickness():
    grid = ViewGrid(4, (0.0, 10.0), (3.0, 3.0))
    assert grid.sample(2, np.random.default_rng(0))[0, 2] == 3
    assert grid.region_of(180, 5, 3.0) == 2


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(0, 2**32))
def test_samples_stay_inside_their_region(grid, seed):
    rng = np.random.default_rng(seed)
    for region in range(0, len(grid), 1 + len(grid) // 7):
        samples = grid.sample(region, rng, 20)
        assert samples.shape == (20, 3)
        for axis, (low, high) in enumerate(grid.bounds(region)):
            assert (samples[:, axis] >= low).all()
            assert (samples[:, axis] <= high).all()
        assert {grid.region_of(*sample) for sample in samples} == {region}


@given(grids())
def test_centres_indices_and_coordinates_agree(grid):
    for region in range(len(grid)):
        assert grid.index(*grid.coordinates(region)) == region
        assert grid.region_of(*grid.centers[region]) == region


def test_sampling_is_uniform_in_area():
    # In the band 30..60 degrees the area below elevation e is (sin e - sin 30) / (sin 60 - sin 30) of the whole:
    # half of it lies below arcsin((sin 30 + sin 60) / 2) = 43.08 degrees, not below 45.
    samples = DEFAULT.sample(DEFAULT.index(4, 2), np.random.default_rng(1), 40_000)
    below = (samples[:, 1] < np.degrees(np.arcsin((0.5 + 3**0.5 / 2) / 2))).mean()
    assert below == pytest.approx(0.5, abs=0.01)  # four standard deviations
    assert (samples[:, 1] < 45).mean() == pytest.approx((0.5**0.5 - 0.5) / (3**0.5 / 2 - 0.5), abs=0.01)
    assert samples[:, 0].mean() == pytest.approx(120, abs=0.2)
    assert samples[:, 2].mean() == pytest.approx(3.3, abs=0.01)
    assert samples[:, 2].std() == pytest.approx(0.4 / 12**0.5, rel=0.02)


def test_a_sample_at_the_upper_edge_of_its_band_stays_below_it():
    highest = SimpleNamespace(uniform=lambda low, high, count: np.full(count, high))  # as rounding may make it
    for band, edge in enumerate((10.0, 30.0, 60.0)):
        elevation = DEFAULT.sample(DEFAULT.index(4, band), highest)[0, 1]
        assert elevation == np.nextafter(edge, 0)
        assert DEFAULT.region_of(120, elevation, 3.3) == DEFAULT.index(4, band)


def test_sampling_repeats_with_the_seed():
    first, second = (DEFAULT.sample(5, np.random.default_rng(7), 3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@settings(max_examples=60, deadline=None)
@given(grids(), st.integers(0, 2**32))
def test_samples_from_anywhere_stay_inside_the_grid(grid, seed):
    samples = grid.sample_anywhere(np.random.default_rng(seed), 50)
    assert samples.shape == (50, 3)
    assert (np.abs(samples[:, 0]) <= 180).all()
    for axis, edges in ((1, grid.elevation_edges), (2, grid.distance_edges)):
        assert (samples[:, axis] >= edges[0]).all()
        assert (samples[:, axis] <= edges[-1]).all()


def test_samples_from_anywhere_are_uniform_in_area():
    # Of -10..60 degrees, elevations below e make up (sin e + sin 10) / (sin 60 + sin 10): half lies below arcsin((sin 60 - sin 10) / 2).
    samples = DEFAULT.sample_anywhere(np.random.default_rng(1), 40_000)
    middle = np.degrees(np.arcsin((np.sin(np.radians(60)) - np.sin(np.radians(10))) / 2))
    assert (samples[:, 1] < middle).mean() == pytest.approx(0.5, abs=0.01)
    assert samples[:, 1].min() < -9.9
    assert samples[:, 1].max() > 59.9
    for low in (-180, -90, 0, 90):
        assert ((samples[:, 0] >= low) & (samples[:, 0] < low + 90)).mean() == pytest.approx(0.25, abs=0.01)
    assert samples[:, 2].mean() == pytest.approx(3.3, abs=0.01)
    assert samples[:, 2].std() == pytest.approx(0.4 / 12**0.5, rel=0.02)
    shares = np.bincount([DEFAULT.region_of(*sample) for sample in samples], minlength=36) / len(samples)
    top = np.sin(np.radians([10, 30, 60])) - np.sin(np.radians([-10, 10, 30]))
    np.testing.assert_allclose(shares.reshape(3, 12), np.repeat(top[:, None] / top.sum() / 12, 12, 1), atol=0.005)


def test_samples_from_anywhere_repeat_with_the_seed():
    first, second = (DEFAULT.sample_anywhere(np.random.default_rng(7), 3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_samples_from_anywhere_take_all_shells():
    grid = ViewGrid(4, (0.0, 30.0), (1.0, 2.0, 5.0))
    distances = grid.sample_anywhere(np.random.default_rng(0), 2000)[:, 2]
    assert distances.mean() == pytest.approx(3, abs=0.15) and distances.max() > 4.9


def test_an_orbit_goes_evenly_around():
    np.testing.assert_allclose(orbit(np.array([30.0, 20.0, 3.3]), 4), [[a, 20, 3.3] for a in (30, 120, 210, 300)])
    np.testing.assert_allclose(orbit(np.array([-15.0, 5.0, 3.0]), 3)[:, 0], [-15, 105, 225])
    np.testing.assert_array_equal(orbit(np.array([30.0, 20.0, 3.3]), 1), [[30, 20, 3.3]])


def test_neighbours_share_a_face_and_azimuth_wraps():
    assert DEFAULT.neighbours(DEFAULT.index(0, 1)).tolist() == sorted(
        [DEFAULT.index(11, 1), DEFAULT.index(1, 1), DEFAULT.index(0, 0), DEFAULT.index(0, 2)]
    )
    assert DEFAULT.neighbours(0).tolist() == [1, 11, 12]  # the lowest band has nothing below it


def test_adjacent_shells_are_neighbours():
    grid = ViewGrid(4, (0.0, 30.0), (1.0, 2.0, 3.0, 4.0))
    assert grid.neighbours(grid.index(1, 0, 1)).tolist() == sorted(
        [grid.index(0, 0, 1), grid.index(2, 0, 1), grid.index(1, 0, 0), grid.index(1, 0, 2)]
    )
    assert grid.neighbours(grid.index(1, 0, 0)).tolist() == sorted([grid.index(0, 0, 0), grid.index(2, 0, 0), grid.index(1, 0, 1)])


@pytest.mark.parametrize("sign", [1, -1])
def test_at_a_pole_whole_rings_are_neighbours(sign):
    edges = (0.0, 30.0, 60.0, 90.0) if sign > 0 else (-90.0, -60.0, -30.0, 0.0)
    pole, next_ring, far_ring = (2, 1, 0) if sign > 0 else (0, 1, 2)
    grid = ViewGrid(6, edges, (3.0, 3.0))
    own = {grid.index(a, pole) for a in range(6)}
    ring = {grid.index(a, next_ring) for a in range(6)}
    assert set(grid.neighbours(grid.index(2, pole)).tolist()) == (own - {grid.index(2, pole)}) | ring
    a_below = set(grid.neighbours(grid.index(2, next_ring)).tolist())
    assert a_below == own | {grid.index(1, next_ring), grid.index(3, next_ring), grid.index(2, far_ring)}


@given(grids())
def test_neighbourhood_is_symmetric_and_irreflexive(grid):
    pairs = {(i, j) for i in range(len(grid)) for j in grid.neighbours(i).tolist()}
    assert pairs == {(j, i) for i, j in pairs}
    assert all(i != j for i, j in pairs)
    assert all(len(grid.neighbours(i)) >= 2 for i in range(len(grid)))


def test_angles_between_centres():
    angles = DEFAULT.angles
    assert angles[0, 1] == pytest.approx(30)  # along the equator
    assert angles[0, DEFAULT.index(0, 1)] == pytest.approx(20)
    assert angles[0, 6] == pytest.approx(180)
    # Between azimuths 0 and 90 at elevation 45 the cosine is sin^2 45 + cos^2 45 cos 90 = 1/2.
    assert angles[DEFAULT.index(0, 2), DEFAULT.index(3, 2)] == pytest.approx(60)
    np.testing.assert_array_equal(np.diag(angles), 0)
    np.testing.assert_allclose(angles, angles.T)


@given(grids())
def test_angles_are_those_of_the_cameras_positions(grid):
    positions = np.stack([orbit_position(a, e, 1.0) for a, e, _ in grid.centers])
    np.testing.assert_allclose(np.cos(np.radians(grid.angles)), (positions @ positions.T).clip(-1, 1), atol=1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        (2, (0.0, 10.0), (1.0, 2.0)),
        (12, (10.0,), (1.0, 2.0)),
        (12, (10.0, 0.0), (1.0, 2.0)),
        (12, (0.0, 0.0), (1.0, 2.0)),
        (12, (0.0, 91.0), (1.0, 2.0)),
        (12, (0.0, float("nan")), (1.0, 2.0)),
        (12, (0.0, 10.0), ()),
        (12, (0.0, 10.0), (0.0, 2.0)),
        (12, (0.0, 10.0), (-1.0, -1.0)),
        (12, (0.0, 10.0), (2.0, 1.0)),
        (12, (0.0, 10.0), (1.0, 2.0, 2.0)),
    ],
)
def test_impossible_grids_are_refused(arguments):
    with pytest.raises(ConfigError) as error:
        ViewGrid(*arguments)
    assert error.value.remedy


@pytest.mark.parametrize("region", [-1, 36])
def test_regions_outside_the_grid_do_not_exist(region):
    for ask in (DEFAULT.neighbours, DEFAULT.bounds, DEFAULT.coordinates):
        with pytest.raises(IndexError):
            ask(region)


def test_shared_arrays_cannot_be_changed():
    for array in (DEFAULT.centers, DEFAULT.angles, DEFAULT.neighbours(3)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
