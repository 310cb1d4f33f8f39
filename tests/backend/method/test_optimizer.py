"""The loop's own parts: what the gradients are, what is stepped with, what is remembered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.checkpoint import flatten, unflatten
from backend.errors import PriorError, ResourceError
from backend.gaussians.rendering import render
from backend.guidance.prior import DiffusionPrior
from backend.guidance.prompts import ViewConditioning
from backend.guidance.rules import RULES, Guidance, Moment, Rule, Target
from backend.job_lines import trace_visits
from backend.method.optimizer import pull
from backend.pipeline import settle

from .toy_runs import GreyPrior, LatentPrior, OnAMacsGpu, OverflowingEncoder, OverflowingPrior, WanderingPrior, config, distillation, losses


def test_main_gradient_is_that_of_the_squared_distance_to_the_denoised_image() -> None:
    """With w = sqrt((1 - abar) / abar) and x0_hat = 0, g = z - 0, so SDS is the gradient of |z|^2 / 2, averaged over the views."""
    run = distillation(config("optimizer.opacity_entropy=0", "optimizer.sparsity=0", "optimizer.views=4", "optimizer.views_per_region=2"))
    views = run.sample_views([3, 20])
    gradients, losses = run.main_gradients(views, [400, 700])
    for k, (own, t) in enumerate(zip(views.slices, (400, 700), strict=True)):
        image = render(run.model.params, views.viewmats[own], views.Ks[own], 24, 24, views.background[own]).rgb
        objective = 0.5 * (image * 2 - 1).square().sum() / 4
        expected = torch.autograd.grad(objective, list(run.model.params.values()))
        for (name, gradient), reference in zip(gradients.items(), expected, strict=True):
            assert (gradient[k] - reference).norm() <= 1e-4 * reference.norm() + 1e-12, name
            assert reference.norm() > 0 or name == "quats", "round Gaussians do not feel a turn, everything else must pull"
        alpha_bar = run.prior.alphas_cumprod[t]
        assert losses[k] == pytest.approx((alpha_bar / (1 - alpha_bar) * (image * 2 - 1).square().mean()).item(), rel=1e-4)


def test_a_prior_on_a_device_without_double_precision() -> None:
    prior = GreyPrior()
    prior.alphas_cumprod = prior.alphas_cumprod.as_subclass(OnAMacsGpu)
    run, usual = distillation(config(), prior), distillation(config())
    assert run.timesteps.global_timestep(0.4) == usual.timesteps.global_timestep(0.4)


@pytest.mark.parametrize("prior", [OverflowingPrior, OverflowingEncoder])
def test_an_answer_that_is_no_number_reaches_no_gaussian(prior: type[DiffusionPrior]) -> None:
    run = distillation(config(), prior())
    before = {name: parameter.detach().clone() for name, parameter in run.model.params.items()}
    with pytest.raises(PriorError, match="not a number") as caught:
        run.step()
    assert "prior.dtype" in caught.value.remedy
    for name, parameter in run.model.params.items():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("prior", [GreyPrior, LatentPrior])
def test_the_regions_gradients_are_the_whole_steps_divided(prior: type[DiffusionPrior]) -> None:
    """What the views ask for together, regularisers included, is the sum over regions, however the views are shared out among them."""
    sets = ("optimizer.views=4", "optimizer.flatness=0.1", "optimizer.depth_distortion=0.1", "optimizer.sparsity=0.3")
    together = distillation(config(*sets, "optimizer.views_per_region=4"), prior())
    apart = distillation(config(*sets, "optimizer.views_per_region=1"), prior())
    views = apart.sample_views([3, 4, 15, 30])
    expected, loss = together.main_gradients(replace(views, regions=[3]), [400])
    gradients, losses = apart.main_gradients(views, [400] * 4)
    for name, gradient in gradients.items():
        assert gradient.shape == (4, *apart.model.params[name].shape)
        torch.testing.assert_close(gradient.sum(dim=0), expected[name][0], rtol=1e-3, atol=1e-5 * expected[name].abs().max().item())
    assert np.mean(losses) == pytest.approx(loss[0])
    torch.testing.assert_close(apart.densifier._gradient, together.densifier._gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("progress", "sparsity"), [(0.0, 0.4), (0.25, 0.2), (0.5, 0.0), (0.9, 0.0)])
def test_regulariser_is_the_annealed_coverage_plus_its_entropy(progress: float, sparsity: float) -> None:
    run = distillation(config("optimizer.sparsity=0.4", "optimizer.sparsity_end=0.5", "optimizer.opacity_entropy=0.3"))
    run.iteration = int(200 * progress)
    alpha = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 3, 1).repeat(2, 1, 1, 1)
    assert run.regulariser(alpha).item() == pytest.approx(sparsity * 1.25 + 0.3 * 0.25 * 0.75)


def test_translucency_weighs_as_the_prior_recommends_unless_the_settings_say_otherwise() -> None:
    prior = GreyPrior()
    prior.recommended = replace(prior.recommended, opacity_entropy=0.7)
    assert distillation(config(), prior).opacity_entropy == 0.7
    assert distillation(config("optimizer.opacity_entropy=0"), prior).opacity_entropy == 0
    assert settle(config(), prior).optimizer.opacity_entropy == 0.7


def test_cameras_lie_in_the_region_and_look_at_the_origin() -> None:
    run = distillation(config("optimizer.views=8", "optimizer.views_per_region=4"))
    for region in range(len(run.grid)):
        views = run.sample_views([region, 35 - region])
        assert views.regions == [region, 35 - region]
        assert views.slices == [slice(0, 4), slice(4, 8)]
        placed = [run.grid.region_of(*angles) for angles in zip(views.azimuths, views.elevations, views.distances, strict=True)]
        assert placed == [region] * 4 + [35 - region] * 4
        centre = views.Ks @ views.viewmats[:, :3, 3:]
        assert torch.allclose(centre[:, :2, 0] / centre[:, 2:, 0], torch.full((8, 2), 12.0), atol=1e-3)
    assert views.background.min() >= 0
    assert views.background.max() <= 1


@pytest.mark.parametrize(("fov", "expected"), [("auto", 40.0), ("60", 60.0)])
def test_the_field_of_view_is_the_priors_unless_the_settings_say_otherwise(fov: str, expected: float) -> None:
    views = distillation(config(f"grid.fov={fov}")).sample_views([3])
    assert views.Ks[0, 0, 0].item() == pytest.approx(12 / np.tan(np.radians(expected / 2)))


def test_the_regions_of_a_step_stand_opposite_each_other() -> None:
    run = distillation(config("optimizer.views=4", "optimizer.views_per_region=2", "region_sampling.enabled=false"))
    for _ in range(5):
        first, second = (visit["region"] % 12 for visit in trace_visits(run.step()))
        assert abs(first - second) == 6


def test_regions_weigh_what_the_settings_say() -> None:
    run = distillation(config("region_sampling.weights=[[3, 2.5], [7, 0.0]]"))
    assert {region: weight for region, weight in enumerate(run.regions.weights) if weight != 1} == {3: 2.5, 7: 0.0}


def test_each_part_has_random_numbers_of_its_own() -> None:
    run = distillation(config())
    states = [run.rng.bit_generator.state, run.regions.state_dict()["rng"], run.timesteps.state_dict()["rng"]]
    assert len({state["state"]["state"] for state in states}) == 3
    assert run.noise.initial_seed() != run.densifier.generator.initial_seed()
    assert run.noise.device.type == "cpu", "so that a checkpoint of one device is taken up on another"


def test_uniform_cameras_are_spread_over_the_grid_and_booked_where_the_first_one_stands() -> None:
    run = distillation(config("optimizer.views=8", "optimizer.views_per_region=4", "grid.cameras=uniform", "gradient_fusion.enabled=false"))
    seen = [run.sample_views([3, 4]) for _ in range(40)]
    regions = [[run.grid.region_of(*angles) for angles in zip(v.azimuths, v.elevations, v.distances, strict=True)] for v in seen]
    assert [views.regions for views in seen] == [[step[0], step[4]] for step in regions]
    assert len({region for step in regions for region in step}) > 30
    assert len(set(regions[0])) > 3, "the views of one step are independent"


def test_orbit_cameras_begin_in_the_region_and_go_around() -> None:
    run = distillation(config("optimizer.views=4", "grid.cameras=orbit"))
    for region in (0, 7, 35):
        views = run.sample_views([region])
        assert views.regions == [region]
        assert np.diff(views.azimuths) == pytest.approx(90)
        assert len(set(views.elevations)) == len(set(views.distances)) == 1
        assert run.grid.region_of(views.azimuths[0], views.elevations[0], views.distances[0]) == region


@pytest.mark.parametrize("cameras", ["uniform", "orbit"])
def test_views_are_booked_where_their_first_camera_stands(cameras: str) -> None:
    run = distillation(
        config(f"grid.cameras={cameras}", f"gradient_fusion.enabled={str(cameras == 'orbit').lower()}", "gradient_fusion.start=0")
    )
    for _ in range(6):
        visits = trace_visits(run.step())
        assert len(visits) == {"uniform": 2, "orbit": 1}[cameras]
        for line in visits:
            assert line["region"] == run.grid.region_of(line["azimuth"], line["elevation"], line["distance"])
            assert np.isfinite(line["loss"])


@pytest.mark.parametrize(("share", "regions"), [(1, 4), (2, 2), (4, 1)])
def test_a_step_has_as_many_regions_as_its_views_are_shared_out_to(share: int, regions: int) -> None:
    run = distillation(config("optimizer.views=4", f"optimizer.views_per_region={share}"))
    for iteration in range(40):
        visits = trace_visits(run.step())
        assert [line["iteration"] for line in visits] == [iteration] * regions
        assert len({line["region"] for line in visits}) == regions
        for line in visits:
            assert abs(line["t"] - line["t_mix"]) <= 51, "each region has a timestep of its own"
            assert line["probability"][line["region"]] > 0
    assert run.regions.visits.sum() == 40 * regions


def test_the_trace_tells_where_a_step_began_another_pass_of_the_warm_up() -> None:
    run = distillation(config("optimizer.views=5"))
    lines = [run.step() for _ in range(8)]
    assert all("probability" not in other for line in lines[:7] for other in line["also"])
    visits = trace_visits(lines[7])  # the 36th visit ends the first pass
    assert [max(visit["probability"]) for visit in visits] == pytest.approx([1.0] + [1 / 35] * 4), "no region twice"
    for visit in visits:
        assert visit["probability"][visit["region"]] > 0
        assert visit.keys() == lines[0].keys() - {"also"}


def test_the_trace_tells_of_each_region_what_the_step_did(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = ("optimizer.views=4", "optimizer.views_per_region=2", "gradient_fusion.start=0", "region_sampling.warmup_passes=0")
    run = distillation(config(*sets, "gradient_fusion.time_window=1"))
    views, reports = [], []
    sample_views, fuse = run.sample_views, run.fusion.fuse
    monkeypatch.setattr(run, "sample_views", lambda regions: views.append(sample_views(regions)) or views[-1])
    monkeypatch.setattr(run.fusion, "fuse", lambda *step, **options: reports.append(fuse(*step, **options)) or reports[-1])
    both_fused = 0
    for _ in range(40):
        indicators, weights, states = run.regions.indicators(), run.regions.weights, run.timesteps.t_local
        visits = trace_visits(run.step())
        assert [visit["region"] for visit in visits] == views[-1].regions
        for k, (visit, report) in enumerate(zip(visits, reports[-1].reports, strict=True)):
            placed = [float(angles[2 * k]) for angles in (views[-1].azimuths, views[-1].elevations, views[-1].distances)]
            assert [visit["azimuth"], visit["elevation"], visit["distance"]] == placed, "where the region's first camera stands"
            assert (visit["neighbours"], visit["norm_main"]) == (report.neighbours, report.norm_main)
            assert (visit["norm_projected"], visit["norm_fused"]) == (report.norm_projected, report.norm_fused)
            assert (visit["indicator"], visit["weight"]) == (indicators.tolist(), weights.tolist()), "as drawn from"
            assert visit["t_local"] == states[visit["region"]]
        both_fused += all(visit["neighbours"] for visit in visits)
    assert both_fused > 3


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_moves_the_gaussians_and_resumes_exactly(rule: str) -> None:
    settled = config(f"guidance.rule={rule}", "optimizer.views=2", "guidance.scale=3", "grid.cameras=orbit")
    run = distillation(settled, LatentPrior())
    before = run.model.params["sh0"].detach().clone()
    resumed_at_once = distillation(settled, LatentPrior())
    resumed_at_once.load_state_dict(unflatten(*flatten(run.state_dict())))
    first = losses(run, 3)
    assert losses(resumed_at_once, 3) == first, "before the first step there is nothing to lose"
    assert np.isfinite(first).all()
    assert (run.model.params["sh0"] - before).abs().max() > 0.01
    resumed = distillation(settled, LatentPrior())
    resumed.load_state_dict(unflatten(*flatten(run.state_dict())))
    expected = [run.step() for _ in range(3)]
    assert [resumed.step() for _ in range(3)] == expected
    for name, parameter in run.model.params.items():
        assert torch.equal(parameter, resumed.model.params[name]), name


def test_what_a_prior_remembers_is_resumed_too() -> None:
    settled = config("guidance.scale=1")
    run = distillation(settled, WanderingPrior())
    losses(run, 3)
    resumed = distillation(settled, WanderingPrior())
    resumed.load_state_dict(unflatten(*flatten(run.state_dict())))
    assert losses(resumed, 3) == losses(run, 3)


def test_a_run_that_is_resumed_between_two_refinements_goes_on_alike() -> None:
    settled = config("densification.every=20", "densification.start=0", "densification.max_count=75", "densification.grow_gradient=0")
    run = distillation(settled)
    losses(run, 15)
    resumed = distillation(settled)
    resumed.load_state_dict(unflatten(*flatten(run.state_dict())))
    assert losses(resumed, 10) == losses(run, 10)
    for name, parameter in run.model.params.items():
        assert torch.equal(parameter, resumed.model.params[name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_checkpoint_goes_back_onto_the_gpu() -> None:
    settled = config("densification.every=4", "densification.start=0")
    run = distillation(settled, device="cuda")
    for _ in range(6):
        run.step()
    resumed = distillation(settled, device="cuda")
    resumed.load_state_dict(unflatten(*flatten(run.state_dict())))
    assert losses(resumed, 6) == pytest.approx(losses(run, 6), rel=1e-3)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "perp_neg"])
def test_every_rule_leads_to_the_prompts_brighter_picture(rule: str) -> None:
    """Descending along g_main must lighten what is rendered; vsd has nothing but guidance to tell it so at first, and that does."""
    run = distillation(
        config(f"guidance.rule={rule}", "guidance.scale=3", "optimizer.opacity_entropy=0", "optimizer.sparsity=0"), LatentPrior()
    )
    gradients, _ = run.main_gradients(replace(run.sample_views([3, 4]), background=torch.zeros(2, 3)), [400, 400])
    assert gradients["sh0"].sum() < 0


def test_perp_neg_brings_its_negatives_and_another_rule_takes_them_from_the_setting() -> None:
    def asked(*sets: str) -> set[str]:
        prior = LatentPrior()
        run = distillation(config("guidance.scale=3", "optimizer.views=1", *sets), prior)
        run.main_gradients(run.sample_views([6]), [400])  # straight from behind
        return {prompt for prompts in prior.asked for prompt in prompts}

    plain = {"", "anything, back view"}
    opposed = plain | {"anything, front view", "anything, side view"}
    assert asked() == plain
    assert asked("guidance.rule=perp_neg") == opposed
    assert asked("guidance.rule=perp_neg", "guidance.perp_neg=0") == plain
    assert asked("guidance.rule=perp_neg", "guidance.perp_neg=auto") == opposed
    assert asked("guidance.perp_neg=0.5") == opposed
    assert asked("guidance.rule=asd", "guidance.perp_neg=[[0.0, 1.0], [1.0, 0.0]]") == opposed
    assert asked("guidance.rule=perp_neg", "guidance.view_prompts=false") == {"", "anything"}


def test_renders_are_drawn_to_a_rules_target_too() -> None:
    """HiFA: what lambda adds to the gradient is that of lambda / 2 |x - x_hat|^2, averaged over the views."""
    sets = ("guidance.rule=hifa", "optimizer.opacity_entropy=0", "optimizer.sparsity=0", "optimizer.views=2")
    runs = [distillation(config(*sets, f"guidance.hifa_image_weight={weight}"), LatentPrior()) for weight in (0.0, 0.1)]
    views = runs[0].sample_views([3, 4])
    without, with_target = (run.main_gradients(views, [400, 400])[0]["sh0"].sum(dim=0) for run in runs)
    image = render(runs[0].model.params, views.viewmats, views.Ks, 24, 24, views.background).rgb.permute(0, 3, 1, 2)
    guidance = distillation(config(*sets), LatentPrior())
    z = guidance.prior.encode_images(image).detach()
    words = guidance.prompts.views(views.azimuths.tolist(), views.elevations.tolist(), views.viewmats)
    target = guidance.rule(z, torch.tensor([400, 400]), words, Moment(0.0, 20, 980), guidance.noise).target
    assert target is not None
    pulled = 0.1 * 0.5 * (image - target.images).square().sum() / 2
    expected = torch.autograd.grad(pulled, runs[0].model.params["sh0"])[0]
    assert torch.allclose(with_target - without, expected, atol=1e-5 * expected.abs().max().item() + 1e-6)


def test_pull_is_half_the_squared_distance_of_a_view_at_the_targets_size() -> None:
    images, target = torch.full((2, 3, 8, 8), 0.5), torch.full((2, 3, 8, 8), 0.2)
    one, own = torch.ones(2), torch.tensor([1.0, 3.0])
    assert pull(images, Target(target, one)).item() == pytest.approx(0.5 * 0.09 * 3 * 64)
    assert pull(images, Target(target, own)).item() == pytest.approx(2 * 0.5 * 0.09 * 3 * 64)
    assert pull(images, Target(target[..., ::2, ::2], one)).item() == pytest.approx(0.5 * 0.09 * 3 * 16)


@pytest.mark.parametrize(
    ("rule", "weighting", "perp_neg"),
    [("sds", "x0", 0.0), ("perp_neg", "x0", 1.0), ("cds", "uniform", 0.0), ("ism", "x0", 0.0), ("hifa", "x0", 0.0), ("vsd", "x0", 0.0)],
)
def test_a_run_settles_what_belongs_to_its_rule(rule: str, weighting: str, perp_neg: float) -> None:
    settled = settle(config(f"guidance.rule={rule}"), GreyPrior())
    assert (settled.guidance.weighting, settled.guidance.perp_neg) == (weighting, perp_neg)
    chosen = settle(config(f"guidance.rule={rule}", "guidance.weighting=sds", "guidance.perp_neg=0.3"), GreyPrior())
    assert (chosen.guidance.weighting, chosen.guidance.perp_neg) == ("sds", 0.3)
    assert settle(config(f"guidance.rule={rule}", "guidance.perp_neg=0"), GreyPrior()).guidance.perp_neg == 0


def test_history_holds_the_unfused_gradient_and_the_step_uses_the_fused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = distillation(config("gradient_fusion.start=0", "region_sampling.warmup_passes=0", "gradient_fusion.time_window=1"))
    seen: dict[str, dict[str, Tensor]] = {}
    fuse, record, descend = run.fusion.fuse, run.fusion.record, run.descend

    def watch_fuse(region, t, iteration, gradients, **options):
        seen["main"] = {name: gradient.clone() for name, gradient in gradients.items()}
        result = fuse(region, t, iteration, gradients, **options)
        seen["fused"] = result.gradients
        return result

    def watch_record(region, t, iteration, gradients):
        assert all(torch.equal(gradients[name], seen["main"][name]) for name in gradients)
        record(region, t, iteration, gradients)

    def watch_descend(gradients):
        for name, gradient in gradients.items():
            assert torch.equal(gradient, seen["fused"][name].sum(dim=0))
        descend(gradients)

    monkeypatch.setattr(run.fusion, "fuse", watch_fuse)
    monkeypatch.setattr(run.fusion, "record", watch_record)
    monkeypatch.setattr(run, "descend", watch_descend)
    lines = [line for _ in range(60) for line in trace_visits(run.step())]
    assert any(line["neighbours"] for line in lines), "some step must have fused"


def test_fusion_lasts_from_start_to_stop() -> None:
    run = distillation(
        config("gradient_fusion.start=0.2", "gradient_fusion.stop=0.4", "region_sampling.warmup_passes=0", "gradient_fusion.time_window=1")
    )
    steps = [trace_visits(run.step()) for _ in range(80)]
    assert not any(line["neighbours"] for lines in steps[:40] for line in lines)
    assert any(line["neighbours"] for line in steps[40]), "40 of 200 is where it starts"
    assert sum(bool(line["neighbours"]) for lines in steps[40:] for line in lines) > 40
    assert run.fusion.nbytes > 0
    assert not any(line["neighbours"] for _ in range(30) for line in trace_visits(run.step()))
    assert run.fusion.nbytes == 0 and not flatten(run.fusion.state_dict())[0], "what nobody will ask for takes no room"


def test_nothing_is_fused_during_the_warm_up() -> None:
    run = distillation(config("gradient_fusion.start=0", "region_sampling.warmup_passes=1", "gradient_fusion.time_window=1"))
    steps = [trace_visits(run.step()) for _ in range(24)]
    assert not any(line["neighbours"] for lines in steps[:18] for line in lines), "two of 36 regions a step"
    assert any(line["neighbours"] for lines in steps[18:] for line in lines)


def test_the_samplers_learn_each_regions_loss_at_its_timestep(monkeypatch: pytest.MonkeyPatch) -> None:
    run = distillation(config("optimizer.views=4", "optimizer.views_per_region=2"))
    told: list[tuple[float, ...]] = []
    for sampler in (run.regions, run.timesteps):
        monkeypatch.setattr(sampler, "record", lambda *values, record=sampler.record: told.append(values) or record(*values))
    for _ in range(3):
        told.clear()
        visits = trace_visits(run.step())
        assert told[::2] == [(visit["region"], visit["loss"], visit["t"] / 1000) for visit in visits]
        assert told[1::2] == [(visit["region"], visit["loss_normalised"]) for visit in visits]


class Overheard:
    """A rule, and when it was asked."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.moments: list[Moment] = []
        self.perp_neg: list[float] = []

    def perp_neg_at(self, progress: float) -> float:
        self.perp_neg.append(progress)
        return self.rule.perp_neg_at(progress)

    def __call__(self, z: Tensor, t: Tensor, views: ViewConditioning, moment: Moment, generator: torch.Generator) -> Guidance:
        self.moments.append(moment)
        return self.rule(z, t, views, moment, generator)


def test_the_prior_and_the_rule_are_told_how_far_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    run = distillation(config("timestep_sampling.clip_high=[[0.0, 0.98], [1.0, 0.5]]"))
    rule = Overheard(run.rule)
    monkeypatch.setattr(run, "rule", rule)
    run.iteration = 100
    run.step()
    assert run.prior.progress == 0.5
    assert rule.moments == [Moment(0.5, 20, 740)]
    assert rule.perp_neg == [0.5]


def test_history_follows_the_gaussians_through_densification() -> None:
    run = distillation(
        config("densification.every=10", "densification.start=0", "densification.max_count=90", "densification.grow_gradient=0")
    )
    counts = {run.step()["gaussians"] for _ in range(40)}
    assert len(counts) > 1, "the number must change"
    histories = [tensor for name, tensor in flatten(run.fusion.state_dict())[0].items() if name.endswith("values")]
    assert {tensor.shape[1] for tensor in histories} == {len(run.model)}
    for name, optimizer in run.optimizers.items():
        moments = next(iter(optimizer.state.values()))
        assert moments["exp_avg"].shape == run.model.params[name].shape


def test_an_opacity_reset_voids_what_is_known_of_the_opacities_gradients() -> None:
    run = distillation(config("densification.every=1000", "densification.start=0", "densification.reset_every=0.05"))
    for _ in range(9):
        run.step()
    assert all(group["values"].any() for name, group in run.fusion.state_dict()["history"].items() if name != "quats")
    run.step()
    assert run.model.params["opacities"].sigmoid().max() < 0.03, "it was reset"
    left = {name: bool(group["values"].any()) for name, group in run.fusion.state_dict()["history"].items()}
    assert (left["opacities"], left["means"], left["sh0"]) == (False, True, True)


def test_no_step_leaves_the_ball_or_the_range_of_widths() -> None:
    run = distillation(config("optimizer.lr_means=0.5", "optimizer.lr_scales=9"))
    run.descend({name: -torch.ones_like(parameter) for name, parameter in run.model.params.items()})
    low, high = run.model.scale_range
    assert run.model.params["means"].norm(dim=1).max().item() == pytest.approx(run.model.bound)
    assert run.model.params["scales"].exp().max().item() == pytest.approx(high)
    run.descend({name: 1e3 * torch.ones_like(parameter) for name, parameter in run.model.params.items()})
    assert run.model.params["scales"].exp().min().item() == pytest.approx(low)


def test_render_size_follows_the_progress() -> None:
    run = distillation(config("optimizer.resolution_steps=[[0.0, 16], [0.5, 24]]"))
    assert run.resolution == 16
    run.iteration = 100
    assert run.resolution == 24


def test_each_group_has_adam_with_its_own_rate() -> None:
    settled = config("optimizer.betas=[0.8, 0.95]", "gaussians.sh_degree=1")
    for name, optimizer in distillation(settled).optimizers.items():
        (options,) = optimizer.param_groups
        assert (options["lr"], options["betas"]) == (getattr(settled.optimizer, f"lr_{name}"), (0.8, 0.95)), name
        assert options["eps"] <= 1e-12, "gradients of 1e-6 are to be stepped along as well as gradients of 1"


def test_backgrounds_are_tinted_greys() -> None:
    """Each view's is one grey level, drawn for it, with a little of its own in each channel: a standard deviation of 0.02."""
    prior = GreyPrior()
    prior.recommended = replace(prior.recommended, backdrops=((0.3, 0.0), (0.7, 0.05)))
    run = distillation(config("optimizer.views=8", "optimizer.views_per_region=8"), prior)
    colour = torch.cat([run.sample_views([3]).background for _ in range(200)]).double()
    dark = colour.mean(dim=1) < 0.5
    assert dark.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert colour[dark].mean().item() == pytest.approx(0.3, abs=0.005)
    assert colour[~dark].mean().item() == pytest.approx(0.7, abs=0.01)
    assert colour[dark].std(dim=0).tolist() == pytest.approx([0.02] * 3, rel=0.15)
    assert colour[~dark].std(dim=0).tolist() == pytest.approx([(0.05**2 + 0.02**2) ** 0.5] * 3, rel=0.15)
    assert colour.diff(dim=1).std(dim=0).tolist() == pytest.approx([0.02 * 2**0.5] * 2, rel=0.1)


def test_only_the_positions_learning_rate_decays() -> None:
    settled = config("optimizer.lr_end=0.1")
    run = distillation(settled)
    run.iteration = 100
    run.step()
    assert run.optimizers["means"].param_groups[0]["lr"] == pytest.approx(settled.optimizer.lr_means * 0.1**0.5)
    assert run.optimizers["sh0"].param_groups[0]["lr"] == settled.optimizer.lr_sh0


def test_a_history_that_could_outgrow_its_limit_is_refused_before_the_first_step() -> None:
    with pytest.raises(ResourceError, match="history"):
        distillation(config("gradient_fusion.memory_limit_gib=0.01", "densification.max_count=100000"))
