"""A step's gradients in one block of memory, seen by group."""

import torch

from backend.method.region_gradients import Layout, RegionGradients


def groups(regions: int, rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"means": (rows, 3), "opacities": (rows,), "sh0": (rows, 1, 3)}
    return {name: torch.randn(regions, *shape, generator=generator) for name, shape in shapes.items()}


def test_groups_are_those_of_every_region_and_share_its_memory() -> None:
    each = groups(3, rows=5)
    gradients = RegionGradients.of(each)
    assert list(gradients) == ["means", "opacities", "sh0"]
    assert gradients.flat.shape == (3, 5 * 7)
    for name, group in gradients.items():
        assert torch.equal(group, each[name])
    gradients["opacities"].zero_()
    assert not gradients.flat[:, 15:20].any()
    assert gradients.flat[:, :15].all() and gradients.flat[:, 20:].all()
    assert each["opacities"].all(), "of() copies"


def test_the_total_is_the_sum_over_regions() -> None:
    each = groups(3, rows=5)
    for name, total in RegionGradients.of(each).total().items():
        torch.testing.assert_close(total, each[name][0] + each[name][1] + each[name][2])


def test_no_gaussians_have_no_gradients() -> None:
    gradients = RegionGradients.of(groups(2, rows=0))
    assert gradients.flat.shape == (2, 0)
    assert gradients["sh0"].shape == (2, 0, 1, 3)


def test_a_layout_follows_the_number_of_gaussians() -> None:
    layout = RegionGradients.of(groups(1, rows=5)).layout
    assert layout.with_rows(2) == Layout({"means": (2, 3), "opacities": (2,), "sh0": (2, 1, 3)})
    assert layout.with_rows(2).edges.tolist() == [0, 6, 8, 14]
    assert layout != layout.with_rows(2)
