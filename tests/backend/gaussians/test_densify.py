"""Duplicating, splitting and removing Gaussians, and what follows them."""

import math
from types import SimpleNamespace

import pytest
import torch

from backend.config import DensificationConfig, GaussiansConfig
from backend.gaussians.densify import Densifier
from backend.gaussians.model import GaussianModel

SMALL, LARGE = 0.01, 0.1


def make(scales, opacities, bound=10.0):
    """A model in which every Gaussian can be recognised by its x, and optimisers that have made a step."""
    count = len(scales)
    means = torch.stack([torch.arange(count, dtype=torch.float32), torch.zeros(count), torch.zeros(count)], dim=1)
    config = GaussiansConfig(min_scale=1e-4, max_scale=1.0, sh_degree=1, bound=bound)
    model = GaussianModel.create(means, torch.tensor(scales)[:, None].repeat(1, 3), torch.rand(count, 3), config)
    with torch.no_grad():
        model.params["opacities"][:] = torch.logit(torch.tensor(opacities))
    optimizers = {name: torch.optim.Adam([parameter], lr=1e-12) for name, parameter in model.params.items()}
    sum(p.sum() for p in model.params.values()).backward()
    for optimizer in optimizers.values():
        optimizer.step()
    return model, optimizers


def meta(gradients, visible=None):
    """A rasteriser's meta for one camera of 2 x 2 pixels, so that pixels are normalised image units."""
    gradients = torch.tensor([[[g, 0.0] for g in gradients]])
    radii = torch.ones(1, gradients.shape[1], 2, dtype=torch.int32)
    if visible is not None:
        radii *= torch.tensor(visible, dtype=torch.int32)[None, :, None]
    return {"means2d": SimpleNamespace(grad=gradients), "radii": radii, "width": 2, "height": 2, "n_cameras": 1}


def densifier(seed=0, **settings):
    settings = {"start": 0.0, "stop": 1.0, "every": 10, "grow_gradient": 0.1, "split_scale": 0.05, "prune_opacity": 0.05} | settings
    return Densifier(DensificationConfig(**settings), 100, torch.Generator().manual_seed(seed))


def test_each_gaussian_meets_its_fate_and_others_can_follow():
    """0 kept, 1 duplicated, 2 split, 3 removed, 4 kept because it was never seen."""
    model, optimizers = make([SMALL, SMALL, LARGE, SMALL, LARGE], [0.5, 0.5, 0.5, 0.01, 0.5])
    moments = optimizers["means"].state[model.params["means"]]["exp_avg"].clone()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    agent = densifier()
    agent.accumulate(meta([0.01, 0.5, 0.5, 0.5, 0.5], visible=[1, 1, 1, 1, 0]), 1)
    remap = agent.step(9, model, optimizers)

    assert (remap.duplicated, remap.split, remap.pruned, remap.opacities_reset) == (1, 1, 1, False)
    assert remap.rows.tolist() == [0, 1, 4, 1, 2, 2]
    assert remap.factor.tolist() == [1, 1, 1, 0.5, 0, 0]
    assert len(model) == 6
    for name, tensor in model.state_dict().items():
        if name not in ("means", "scales"):
            assert torch.equal(tensor, before[name][remap.rows]), name
    assert torch.equal(model.params["means"][:4], before["means"][remap.rows[:4]])
    assert torch.all((model.params["means"][4:] - before["means"][2]).abs() < 6 * LARGE)
    torch.testing.assert_close(model.params["scales"][4:].exp(), torch.full((2, 3), LARGE / 1.6))
    for name, optimizer in optimizers.items():
        assert optimizer.param_groups[0]["params"][0] is model.params[name]
    followed = optimizers["means"].state[model.params["means"]]["exp_avg"]
    assert torch.equal(followed[:3], moments[[0, 1, 4]]) and torch.all(followed[3:] == 0)


def test_nothing_happens_between_refinements_or_outside_the_times():
    model, optimizers = make([SMALL] * 3, [0.5] * 3)
    agent = densifier(start=0.5, stop=0.8)
    for iteration in (8, 10, 39):
        agent.accumulate(meta([1.0] * 3), 1)
        assert agent.step(iteration, model, optimizers) is None
    assert agent.step(49, model, optimizers).duplicated == 3
    agent.accumulate(meta([1.0] * 6), 1)
    assert agent.step(79, model, optimizers) is None, "growing has ended"
    with torch.no_grad():
        model.params["opacities"][0] = -20
    assert agent.step(89, model, optimizers).pruned == 1, "removing has not"


def test_disabled():
    model, optimizers = make([SMALL], [0.5])
    agent = densifier(enabled=False)
    agent.accumulate(meta([1.0]), 1)
    assert agent.step(9, model, optimizers) is None


def test_views_drawn_together_count_as_one_after_the_other():
    """A step's regions are drawn in one pass, each its own copy of the Gaussians: [views, cameras, N, 2]."""
    first, second = meta([0.03, 0.09, 0.2], visible=[1, 1, 0]), meta([0.15, 0.01, 0.05])
    together = {
        "means2d": SimpleNamespace(grad=torch.stack([first["means2d"].grad, second["means2d"].grad])),
        "radii": torch.stack([first["radii"], second["radii"]]),
        "width": 2,
        "height": 2,
    }
    one, other = densifier(), densifier()
    one.accumulate(first, 2)
    one.accumulate(second, 2)
    other.accumulate(together, 2)
    torch.testing.assert_close(other._gradient, one._gradient)
    torch.testing.assert_close(other._gradient, torch.tensor([0.36, 0.2, 0.1]))
    assert torch.equal(other._visits, one._visits) and other._visits.tolist() == [2, 2, 1]


def test_the_cap_takes_the_hardest_pulled():
    model, optimizers = make([SMALL] * 6, [0.5] * 6)
    agent = densifier(max_count=8)
    agent.accumulate(meta([0.2, 0.9, 0.3, 0.8, 0.4, 0.05]), 1)
    remap = agent.step(9, model, optimizers)
    assert sorted(remap.rows.tolist()) == [0, 1, 1, 2, 3, 3, 4, 5]
    agent.accumulate(meta([1.0] * 8), 1)
    assert agent.step(19, model, optimizers) is None and len(model) == 8


def test_removed_gaussians_make_room_under_the_cap():
    model, optimizers = make([LARGE] * 4, [0.01, 0.5, 0.5, 0.5])
    agent = densifier(max_count=4)
    agent.accumulate(meta([0.0, 0.2, 0.4, 0.3]), 1)
    remap = agent.step(9, model, optimizers)
    assert len(model) == 4 and sorted(remap.rows.tolist()) == [1, 2, 2, 3]


def test_the_last_gaussian_stays():
    model, optimizers = make([SMALL] * 3, [0.001, 0.003, 0.002])
    remap = densifier().step(9, model, optimizers)
    assert remap.rows.tolist() == [1] and remap.pruned == 2


def test_gaussians_that_are_not_finite_are_removed():
    model, optimizers = make([SMALL] * 3, [0.5] * 3)
    with torch.no_grad():
        model.params["means"][1, 0] = math.nan
        model.params["opacities"][2] = math.inf
    assert densifier().step(9, model, optimizers).rows.tolist() == [0]


def test_gradients_are_averaged_over_visits_and_scaled_to_the_image():
    """Seen once with 0.3 and once not: mean 0.3. Width 20 makes 0.03 pixels^-1 a 0.3."""
    model, optimizers = make([SMALL] * 2, [0.5] * 2)
    agent = densifier(grow_gradient=0.25)
    agent.accumulate(meta([0.3, 0.3], visible=[1, 1]), 1)
    agent.accumulate(meta([9.0, 0.0], visible=[0, 1]), 1)
    assert agent.step(9, model, optimizers).rows.tolist() == [0, 1, 0]
    wide = meta([0.0, 0.03, 0.0]) | {"width": 20}
    agent.accumulate(wide, 1)
    assert agent.step(19, model, optimizers).rows.tolist() == [0, 1, 2, 1]


def test_the_gradients_of_a_part_of_the_views_count_as_those_of_all():
    """The loss is a mean over four views: each one's gradient is a quarter of what it would be alone."""
    model, optimizers = make([SMALL] * 2, [0.5] * 2)
    agent = densifier(grow_gradient=0.35)
    for gradient in (0.1, 0.08):
        agent.accumulate(meta([gradient, 0.08]), 4)
    assert agent.step(9, model, optimizers).rows.tolist() == [0, 1, 0], "means 4 (0.1 + 0.08) / 2 = 0.36 and 0.32"


def test_a_gaussian_without_width_along_one_edge_is_not_seen():
    model, optimizers = make([SMALL] * 2, [0.5] * 2)
    agent = densifier()
    seen = meta([0.5, 0.5])
    seen["radii"][0, 0, 1] = 0
    agent.accumulate(seen, 1)
    assert agent.step(9, model, optimizers).rows.tolist() == [0, 1, 1]


def test_every_refinement_begins_to_collect_anew():
    model, optimizers = make([SMALL], [0.5])
    agent = densifier(grow_gradient=0.1)
    agent.accumulate(meta([0.05]), 1)
    assert agent.step(9, model, optimizers) is None
    agent.accumulate(meta([0.12]), 1)
    assert agent.step(19, model, optimizers).duplicated == 1, "the mean with what was collected before would be 0.085"


def test_a_gaussians_largest_width_decides_whether_it_is_split():
    model, optimizers = make([SMALL] * 3, [0.5] * 3)
    with torch.no_grad():
        model.params["scales"][0, 1] = math.log(LARGE)
    agent = densifier()
    agent.accumulate(meta([1.0, 1.0, 0.0]), 1)
    remap = agent.step(9, model, optimizers)
    assert (remap.duplicated, remap.split) == (1, 1)
    assert remap.rows.tolist() == [1, 2, 1, 0, 0]


def test_children_keep_to_the_ball_and_the_range_of_widths():
    model, optimizers = make([LARGE] * 20, [0.5] * 20, bound=0.01)
    model.scale_range = (LARGE / 1.2, 1.0)
    agent = densifier()
    agent.accumulate(meta([1.0] * 20), 1)
    assert agent.step(9, model, optimizers).split == 20
    assert model.params["means"].norm(dim=1).max().item() == pytest.approx(0.01)
    torch.testing.assert_close(model.params["scales"].exp(), torch.full((40, 3), LARGE / 1.2))


def test_opacity_reset_is_reported():
    model, optimizers = make([SMALL] * 3, [0.5, 0.07, 0.9])
    agent = densifier(reset_every=0.07)
    remap = agent.step(6, model, optimizers)
    assert remap.opacities_reset and remap.rows.tolist() == [0, 1, 2] and remap.factor.tolist() == [1, 1, 1]
    assert model.params["opacities"].sigmoid().tolist() == pytest.approx([0.1, 0.07, 0.1])
    assert torch.all(optimizers["opacities"].state[model.params["opacities"]]["exp_avg"] == 0)


def test_a_reset_leaves_something_where_nothing_is_removed():
    model, optimizers = make([SMALL] * 2, [0.5, 0.9])
    assert densifier(reset_every=0.07, prune_opacity=0.0).step(6, model, optimizers).opacities_reset
    assert model.params["opacities"].sigmoid().tolist() == pytest.approx([0.01, 0.01])


def test_resets_come_after_the_nearest_whole_number_of_iterations():
    model, optimizers = make([SMALL], [0.5])
    agent = densifier(reset_every=0.29)  # of 100 iterations that is 28.999999999999996
    assert [iteration for iteration in range(60) if agent.step(iteration, model, optimizers)] == [28, 57]


def test_resets_end_with_growing():
    model, optimizers = make([SMALL], [0.5])
    agent = densifier(reset_every=0.07, stop=0.6)
    assert agent.step(55, model, optimizers).opacities_reset
    assert agent.step(62, model, optimizers) is None


@pytest.mark.parametrize("least", [0.5, 0.6, 1.0])
def test_a_reset_to_twice_what_is_removed_ends_at_full_opacity(least):
    """No logit belongs to more."""
    model, optimizers = make([SMALL] * 3, [0.5, 0.07, 0.9])
    before = model.params["opacities"].detach().clone()
    assert densifier(reset_every=0.07, prune_opacity=least).step(6, model, optimizers).opacities_reset
    assert torch.equal(model.params["opacities"], before)


def test_a_split_follows_our_generator_and_leaves_the_global_one_alone():
    means = []
    for seed in (1, 1, 2):
        model, optimizers = make([LARGE] * 4, [0.5] * 4)
        agent = densifier(seed)
        agent.accumulate(meta([1.0] * 4), 1)
        torch.manual_seed(len(means))
        state = torch.random.get_rng_state()
        agent.step(9, model, optimizers)
        assert torch.equal(torch.random.get_rng_state(), state)
        means.append(model.params["means"].detach())
    assert torch.equal(means[0], means[1]) and not torch.equal(means[0], means[2])


def test_a_restored_densifier_goes_on_alike():
    results = []
    for interrupted in (False, True):
        model, optimizers = make([LARGE] * 4, [0.5] * 4)
        agent = densifier(3, grow_gradient=0.2)
        for _ in range(3):
            agent.accumulate(meta([0.25, 0.0, 0.25, 0.0]), 1)
        if interrupted:
            saved, agent = agent.state_dict(), densifier(99, grow_gradient=0.2)
            agent.load_state_dict(saved)
        agent.accumulate(meta([0.0, 0.0, 0.25, 0.0]), 1)
        assert agent.step(9, model, optimizers).rows.tolist() == [0, 1, 3, 2, 2], "of 4 visits the first has a mean of 0.1875"
        results.append(model.params["means"].detach())
    assert torch.equal(*results)


def test_a_run_without_optimiser_state_can_be_refined():
    model, _ = make([LARGE, SMALL], [0.5, 0.5])
    optimizers = {name: torch.optim.Adam([parameter]) for name, parameter in model.params.items()}
    agent = densifier()
    agent.accumulate(meta([1.0, 1.0]), 1)
    assert len(agent.step(9, model, optimizers).rows) == 4
