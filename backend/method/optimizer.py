"""Figure 2: the loop that distils a frozen 2D prior into 3D Gaussians.

`Distillation.step` is the paper's iteration, line by line. Everything it needs is made in the constructor and every
part with a memory is checkpointed by `state_dict`, so a resumed run on the CPU repeats an uninterrupted one exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..cameras import intrinsics, orbit_viewmats
from ..config import GenerationConfig, OptimizerConfig
from ..errors import ConfigError, PriorError
from ..gaussians.densify import Densifier
from ..gaussians.model import GaussianModel
from ..gaussians.rendering import RenderOutput, render
from ..guidance.prior import DiffusionPrior, PriorDefaults
from ..guidance.prompts import ViewPrompts
from ..guidance.rules import Moment, Target, make_rule
from ..settings_agreement import check_region_weights
from .gradient_fusion import FusionReport, GradientFusion
from .region_gradients import RegionGradients
from .region_sampling import RegionDraw, RegionSampler
from .surface_terms import surface_terms
from .timestep_sampling import TimestepDraw, TimestepSampler, settled
from .view_grid import ViewGrid, orbit

BACKDROP_TINT = 0.02
"""Standard deviation of a background's colour in each channel, on top of its grey level's."""


@dataclass(frozen=True)
class Views:
    """The cameras of one step, region after region.

    Attributes:
        regions: [R] those that the step is booked under; each has V / R of the cameras.
        azimuths, elevations, distances: [V] degrees and world units.
        viewmats, Ks: [V, 4, 4] and [V, 3, 3] float32 on the model's device.
        resolution: pixels along an edge.
        background: [V, 3] plain colours.
    """

    regions: list[int]
    azimuths: np.ndarray
    elevations: np.ndarray
    distances: np.ndarray
    viewmats: Tensor
    Ks: Tensor
    resolution: int
    background: Tensor

    @property
    def slices(self) -> list[slice]:
        """[R] which of the cameras are each region's."""
        share = len(self.azimuths) // len(self.regions)
        return [slice(first, first + share) for first in range(0, len(self.azimuths), share)]

    def by_region(self, of_views: Tensor) -> Tensor:
        """[R, V / R, ...] what is given for all views [V, ...]."""
        return of_views.unflatten(0, (len(self.regions), -1))


class Distillation:
    """One run of the method on one prompt.

    Args:
        config: the settings, with nothing left to the prior's recommendation but what may be.
        prior: the frozen diffusion model.
        model: the Gaussians to optimise; changed in place.

    Raises:
        ConfigError: the settings weigh a region that the grid does not have, or the cameras are not such as the prior needs.
        ResourceError: the history of gradients could outgrow its memory limit.
    """

    def __init__(
        self, config: GenerationConfig, prior: DiffusionPrior, model: GaussianModel, prompt: str, negative_prompt: str = ""
    ) -> None:
        self.config, self.prior, self.model = config, prior, model
        check_cameras(config, prior)
        self.iteration = 0
        seeds = np.random.SeedSequence(config.run.seed).spawn(5)
        self.rng = np.random.default_rng(seeds[0])
        self.noise = torch.Generator().manual_seed(int(seeds[1].generate_state(1)[0]))
        self.grid = ViewGrid.from_config(config.grid, prior.recommended.distance)
        self.fov = config.grid.fov or prior.recommended.fov
        self.opacity_entropy = settled_opacity_entropy(config.optimizer, prior.recommended)
        self.regions = RegionSampler(self.grid, config.region_sampling, np.random.default_rng(seeds[2]))
        check_region_weights(config.region_sampling.weights, len(self.grid))
        for region, factor in config.region_sampling.weights:
            self.regions.set_weight(region, factor)
        timesteps = settled(config.timestep_sampling, prior.recommended)
        self.timesteps = TimestepSampler(self.grid, timesteps, prior.alphas_cumprod.cpu().double().numpy(), np.random.default_rng(seeds[3]))
        self.fusion = GradientFusion(self.grid, config.gradient_fusion, prior.num_train_timesteps, model.device)
        numbers = sum(parameter[0].numel() for parameter in model.params.values())
        self.fusion.check_memory(max(len(model), config.densification.max_count if config.densification.enabled else 0) * numbers)
        guidance = config.guidance
        self.prompts = ViewPrompts(prior, prompt, negative_prompt, enabled=guidance.view_prompts, blend=guidance.blend_views)
        self.rule = make_rule(prior, guidance)
        self.optimizers = make_optimizers(model, config.optimizer)
        splits = torch.Generator().manual_seed(int(seeds[4].generate_state(1)[0]))
        self.densifier = Densifier(config.densification, config.optimizer.iterations, splits, model.device)

    @property
    def progress(self) -> float:
        """prog: the share of the iterations that is done."""
        return self.iteration / self.config.optimizer.iterations

    def step(self) -> dict[str, Any]:
        """One iteration; returns its line of `trace.jsonl`."""
        before_stop = self.progress < self.config.gradient_fusion.stop
        fusing = before_stop and self.progress >= self.config.gradient_fusion.start and self.regions.warmed_up
        choices = self.regions.draw(self.config.optimizer.views // self.views_per_region)  # 3.2, eqs. 6 and 7
        views = self.sample_views([choice.region for choice in choices])
        drawn = [self.timesteps.sample(region, self.progress) for region in views.regions]  # 3.3, eq. 8
        t = [draw.t for draw in drawn]
        main, losses = self.main_gradients(views, t)  # eqs. 5 and 9
        fused = self.fusion.fuse(views.regions, t, self.iteration, main, active=fusing)  # 3.4, eq. 10
        self.descend(fused.gradients.total())
        if before_stop:
            self.fusion.record(views.regions, t, self.iteration, main)  # the unfused gradients
        else:
            self.fusion.forget()
        normalised = []
        for region, loss, at in zip(views.regions, losses, t, strict=True):
            normalised.append(self.regions.record(region, loss, at / self.prior.num_train_timesteps))
            self.timesteps.record(region, normalised[-1])
        line = self.trace_line(views, choices, drawn, losses, normalised, fused.reports)
        self.refine_gaussians()
        self.iteration += 1
        return line

    def trace_line(
        self,
        views: Views,
        choices: list[RegionDraw],
        drawn: list[TimestepDraw],
        losses: list[float],
        normalised: list[float],
        fusion: list[FusionReport],
    ) -> dict[str, Any]:
        """All from which the equations can be recomputed: of the first region, and under `also` what differs in the others."""
        visits = [
            {
                "region": region,
                "azimuth": float(views.azimuths[own.start]),
                "elevation": float(views.elevations[own.start]),
                "distance": float(views.distances[own.start]),
                "loss": losses[k],
                "loss_normalised": normalised[k],
                "probability": choices[k].probability.tolist(),
                **vars(drawn[k]),
                "neighbours": fusion[k].neighbours,
                "norm_main": fusion[k].norm_main,
                "norm_projected": fusion[k].norm_projected,
                "norm_fused": fusion[k].norm_fused,
            }
            for k, (region, own) in enumerate(zip(views.regions, views.slices, strict=True))
        ]
        for visit in visits[1:]:
            if visit["probability"] == visits[0]["probability"]:  # else the step ended one pass of the warm-up and began the next
                del visit["probability"]
        return {
            "iteration": self.iteration,
            **visits[0],
            "indicator": choices[0].indicator.tolist(),
            "weight": choices[0].weight.tolist(),
            "gaussians": len(self.model),
            "also": visits[1:],
        }

    @property
    def views_per_region(self) -> int:
        """Cameras that share a region, a timestep and a gradient: those that the prior predicts together, at the least."""
        if self.config.grid.cameras == "orbit":
            return self.prior.views_per_prediction if self.prior.views_per_prediction > 1 else self.config.optimizer.views
        return self.config.optimizer.views_per_region

    def sample_views(self, regions: list[int]) -> Views:
        """Cameras in these regions (or where `place_cameras` puts them), each in front of its own plain background."""
        count, resolution = self.config.optimizer.views, self.resolution
        share = count // len(regions)
        azimuths, elevations, distances = np.concatenate([self.place_cameras(region, share) for region in regions]).T
        backdrops = np.array(self.prior.recommended.backdrops)
        level, deviation = backdrops[self.rng.integers(len(backdrops), size=count)].T
        colour = self.rng.normal(level, deviation)[:, None] + self.rng.normal(0, BACKDROP_TINT, (count, 3))
        background = _float32(colour.clip(0, 1), self.model.device)
        booked = [self.grid.region_of(azimuths[first], elevations[first], distances[first]) for first in range(0, count, share)]
        viewmats = _float32(orbit_viewmats(azimuths, elevations, distances), self.model.device)
        Ks = _float32(intrinsics(self.fov, resolution, resolution), self.model.device).expand(count, 3, 3)
        return Views(booked, azimuths, elevations, distances, viewmats, Ks, resolution, background)

    def place_cameras(self, region: int, count: int) -> np.ndarray:
        """[count, 3] azimuths, elevations and distances of the cameras drawn for a region, as `grid.cameras` says."""
        if self.config.grid.cameras == "uniform":
            return self.grid.sample_anywhere(self.rng, count)
        if self.config.grid.cameras == "orbit":
            return orbit(self.grid.sample(region, self.rng, 1)[0], count)
        return self.grid.sample(region, self.rng, count)

    @property
    def resolution(self) -> int:
        """The render size at this point of the run, in pixels."""
        return self.resolution_at(self.progress)

    def resolution_at(self, progress: float) -> int:
        """The render size at a progress in 0..1, in pixels."""
        steps = self.config.optimizer.resolution_steps or ((0.0, self.prior.recommended.resolutions[-1]),)
        return [pixels for begin, pixels in steps if begin <= progress][-1]

    def main_gradients(self, views: Views, t: list[int]) -> tuple[RegionGradients, list[float]]:
        """g_main and the raw losses [R], for each region's views at its timestep.

        Every region draws a copy of the Gaussians, so that one backward pass keeps the regions' gradients apart.
        """
        copies = self.model.copies(len(views.regions))
        rendered = self.render(copies, views)
        images = rendered.rgb.detach().flatten(0, 1).permute(0, 3, 1, 2).to(self.prior.device).requires_grad_()
        losses, towards = self.image_gradients(views, images, t)
        penalties = self.regulariser(rendered.alpha) + self.surface_terms(copies, rendered, views)
        objective = (rendered.rgb * towards.view_as(rendered.rgb)).sum() + penalties
        gradients = torch.autograd.grad(objective, list(copies.values()))
        self.densifier.accumulate(rendered.meta, len(images))
        return RegionGradients.of(dict(zip(copies, gradients, strict=True))), losses

    def render(self, copies: dict[str, Tensor], views: Views) -> RenderOutput:
        """Each copy [R, N, ...] of the Gaussians from its region's views, [R, V / R, H, W, ...]."""
        size, implementation = views.resolution, self.config.run.rasterizer
        viewmats, Ks, background = (views.by_region(x) for x in (views.viewmats, views.Ks, views.background))
        return render(copies, viewmats, Ks, size, size, background, implementation=implementation)

    def image_gradients(self, views: Views, images: Tensor, t: list[int]) -> tuple[list[float], Tensor]:
        """The regions' raw losses, and dL/d(image) [V, H, W, 3] on the model's device: the prior's answer, back through its encoder."""
        timesteps = torch.tensor(t, device=images.device).repeat_interleave(len(images) // len(t))
        self.prior.progress = self.progress
        z = self.prior.encode_images(images)
        words = self.prompts.views(views.azimuths.tolist(), views.elevations.tolist(), views.viewmats, self.rule.perp_neg_at(self.progress))
        moment = Moment(self.progress, *self.timesteps.bounds(self.progress))
        guidance = self.rule(z.detach(), timesteps, words, moment, self.noise)
        objective = (z * guidance.gradient).sum()
        if guidance.target is not None:
            objective = objective + pull(images, guidance.target)
        (gradient,) = torch.autograd.grad(objective, images)
        check_answer(guidance.loss, gradient)
        return guidance.loss.view(len(t), -1).mean(dim=1).tolist(), gradient.permute(0, 2, 3, 1).to(self.model.device)

    def regulariser(self, alpha: Tensor) -> Tensor:
        """Penalties on the coverage [R, V / R, H, W, 1], averaged over views, that a 2D prior cannot make: a fog of one colour looks to it
        like a plain background."""
        settings = self.config.optimizer
        sparsity = settings.sparsity * max(0.0, 1 - self.progress / settings.sparsity_end)
        return (sparsity * alpha + self.opacity_entropy * alpha * (1 - alpha)).sum() / alpha.shape[:-3].numel()

    def surface_terms(self, copies: dict[str, Tensor], rendered: RenderOutput, views: Views) -> Tensor:
        """What draws the Gaussians onto a surface; 0 unless the settings ask for it."""
        viewmats, Ks = views.by_region(views.viewmats), views.by_region(views.Ks)
        return surface_terms(copies, rendered.alpha, rendered.depth, viewmats, Ks, self.config.optimizer, self.config.run.rasterizer)

    def descend(self, gradients: dict[str, Tensor]) -> None:
        """One Adam step along the given gradients."""
        settings = self.config.optimizer
        self.optimizers["means"].param_groups[0]["lr"] = settings.lr_means * settings.lr_end**self.progress
        for name, parameter in self.model.params.items():
            parameter.grad = gradients[name]
            self.optimizers[name].step()
            parameter.grad = None
        self.model.clamp_()

    def refine_gaussians(self) -> None:
        """Grows and prunes the Gaussians where due; the history of gradients follows every change."""
        remap = self.densifier.step(self.iteration, self.model, self.optimizers)
        if remap is not None:
            self.fusion.remap(remap.rows, remap.factor)
            if remap.opacities_reset:
                self.fusion.clear_group("opacities")

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "iteration": self.iteration,
            "rng": self.rng.bit_generator.state,
            "noise": self.noise.get_state(),
            "model": self.model.state_dict(),
            "optimizers": {name: _adam_state(optimizer) for name, optimizer in self.optimizers.items()},
            **{name: getattr(self, name).state_dict() for name in self._PARTS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.iteration = state["iteration"]
        self.rng.bit_generator.state = state["rng"]
        self.noise.set_state(state["noise"])
        self.model.load_state_dict(state["model"])
        self.optimizers = make_optimizers(self.model, self.config.optimizer)
        for name, optimizer in self.optimizers.items():
            _load_adam_state(optimizer, state["optimizers"][name])
        for name in self._PARTS:
            getattr(self, name).load_state_dict(state[name])

    _PARTS = ("prior", "rule", "regions", "timesteps", "fusion", "densifier")


def settled_opacity_entropy(settings: OptimizerConfig, recommended: PriorDefaults) -> float:
    """The weight of the penalty on translucency as a number: where the settings leave it open, the prior's."""
    return recommended.opacity_entropy if settings.opacity_entropy is None else settings.opacity_entropy


def check_cameras(config: GenerationConfig, prior: DiffusionPrior) -> None:
    """Views that a prior predicts together must stand evenly around the asset. Raises `ConfigError` where they would not."""
    together, views = prior.views_per_prediction, config.optimizer.views
    if views % together:
        raise ConfigError(
            f"This image model predicts {together} views together, which {views} views a step cannot be divided into.",
            remedy=f"Set optimizer.views to {together} or a multiple of it.",
        )
    if together > 1 and config.grid.cameras != "orbit":
        raise ConfigError(
            f"This image model predicts {together} views that stand evenly around the asset, not '{config.grid.cameras}' ones.",
            remedy="Set grid.cameras to orbit.",
        )


def check_answer(*values: Tensor) -> None:
    """One NaN, and every Gaussian that is stepped with it is lost. Raises `PriorError` where a value is NaN or infinite."""
    # One that is not finite makes the sum so, too, which costs a twentieth of looking at each.
    if not all(value.sum(dtype=torch.float32).isfinite() for value in values):
        raise PriorError(
            "The image model's answer is not a number: its arithmetic overflowed.",
            remedy="Start anew with prior.dtype at bfloat16 or float32, or choose another image model.",
        )


def pull(images: Tensor, target: Target) -> Tensor:
    """weight / 2 |x - target|^2, summed over pixels and averaged over the views [V, 3, H, W]; of the target's size if they differ."""
    if images.shape[-2:] != target.images.shape[-2:]:
        images = F.interpolate(images, target.images.shape[-2:], mode="bilinear", antialias=True)
    return 0.5 * (target.weight * (images - target.images).square().sum(dim=(1, 2, 3))).mean()


def make_optimizers(model: GaussianModel, settings: OptimizerConfig) -> dict[str, torch.optim.Optimizer]:
    """One Adam a parameter group, as gsplat's strategy operations want them."""
    return {
        name: torch.optim.Adam(
            [{"params": parameter, "name": name}], lr=getattr(settings, f"lr_{name}"), betas=settings.betas, eps=1e-15, fused=True
        )
        for name, parameter in model.params.items()
    }


def _float32(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _adam_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The moments of an optimiser with one parameter; empty before its first step."""
    return dict(optimizer.state.get(optimizer.param_groups[0]["params"][0], {}))


def _load_adam_state(optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Moments from wherever a checkpoint was read to, onto the parameter's device, its count of steps included: Adam is fused."""
    if state:
        parameter = optimizer.param_groups[0]["params"][0]
        optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in state.items()}
