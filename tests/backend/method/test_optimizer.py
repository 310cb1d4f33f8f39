"""The loop's own parts: what the gradients are, what is stepped with, what is remembered."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from backend import settings
from backend.checkpoint import flatten
from backend.config import GenerationConfig
from backend.errors import ResourceError
from backend.gaussians.initialize import initialize
from backend.guidance.prior import Conditioning, DiffusionPrior, PriorDefaults
from backend.method.optimizer import Distillation


class GreyPrior(DiffusionPrior):
    """Believes that every picture is plain grey: x0_hat = 0 in -1..1, whatever the prompt."""

    def __init__(self) -> None:
        self.name, self.fingerprint, self.device = "grey", "none", torch.device("cpu")
        self.recommended = PriorDefaults(guidance_scale=1.0, weighting="x0", clamp=0.0, resolutions=(24,))
        self.alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        return Conditioning(tuple(prompts))

    def encode_images(self, images: Tensor) -> Tensor:
        return images * 2 - 1

    def decode(self, z: Tensor) -> Tensor:
        return z * 0.5 + 0.5

    def predict_noise(self, z_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        return z_t / (1 - self.alphas_cumprod[t].view(-1, 1, 1, 1)).sqrt()


def config(*sets: str) -> GenerationConfig:
    base = ["gaussians.count=60", "optimizer.iterations=200", "optimizer.views=2", "optimizer.resolution_steps=[]", "gaussians.opacity=0.6"]
    return settings.resolve("draft", sets=[*base, "gaussians.colour_noise=0.4", *sets])


def distillation(settled: GenerationConfig) -> Distillation:
    model = initialize(settled.gaussians, torch.Generator().manual_seed(0), torch.device("cpu"))
    return Distillation(settled, GreyPrior(), model, "anything")


def test_main_gradient_is_that_of_the_squared_distance_to_the_denoised_image() -> None:
    """With w = sqrt((1 - abar) / abar) and x0_hat = 0, g = z - 0, so SDS is the gradient of |z|^2 / 2, averaged over the views."""
    run = distillation(config("optimizer.opacity_entropy=0", "optimizer.sparsity=0"))
    views = run.sample_views(3)
    gradients, loss = run.main_gradient(views, 400)
    image = run.model.render(views.viewmats, views.Ks, 24, 24, views.background).rgb
    objective = 0.5 * (image * 2 - 1).square().sum() / len(image)
    expected = torch.autograd.grad(objective, list(run.model.params.values()))
    for (name, gradient), reference in zip(gradients.items(), expected, strict=True):
        assert (gradient - reference).norm() <= 1e-4 * reference.norm() + 1e-12, name
        assert reference.norm() > 0 or name == "quats", "round Gaussians do not feel a turn, everything else must pull"
    alpha_bar = run.prior.alphas_cumprod[400]
    assert loss == pytest.approx((alpha_bar / (1 - alpha_bar) * (image * 2 - 1).square().mean()).item(), rel=1e-4)


@pytest.mark.parametrize(("progress", "sparsity"), [(0.0, 0.4), (0.25, 0.2), (0.5, 0.0), (0.9, 0.0)])
def test_regulariser_is_the_annealed_coverage_plus_its_entropy(progress: float, sparsity: float) -> None:
    run = distillation(config("optimizer.sparsity=0.4", "optimizer.sparsity_end=0.5", "optimizer.opacity_entropy=0.3"))
    run.iteration = int(200 * progress)
    alpha = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 3, 1).repeat(2, 1, 1, 1)
    assert run.regulariser(alpha).item() == pytest.approx(sparsity * 1.25 + 0.3 * 0.25 * 0.75)


def test_cameras_lie_in_the_region_and_look_at_the_origin() -> None:
    run = distillation(config("optimizer.views=8"))
    for region in range(len(run.grid)):
        views = run.sample_views(region)
        assert {run.grid.region_of(*angles) for angles in zip(views.azimuths, views.elevations, views.distances, strict=True)} == {region}
        centre = views.Ks @ views.viewmats[:, :3, 3:]
        assert torch.allclose(centre[:, :2, 0] / centre[:, 2:, 0], torch.full((8, 2), 12.0), atol=1e-3)
    assert views.background.min() >= 0
    assert views.background.max() <= 1


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
        assert gradients is seen["fused"]
        descend(gradients)

    monkeypatch.setattr(run.fusion, "fuse", watch_fuse)
    monkeypatch.setattr(run.fusion, "record", watch_record)
    monkeypatch.setattr(run, "descend", watch_descend)
    lines = [run.step() for _ in range(60)]
    assert any(line["neighbours"] for line in lines), "some step must have fused"


def test_fusion_waits_for_its_start() -> None:
    run = distillation(config("gradient_fusion.start=0.2", "region_sampling.warmup_passes=0", "gradient_fusion.time_window=1"))
    lines = [run.step() for _ in range(80)]
    assert not any(line["neighbours"] for line in lines[:40])
    assert any(line["neighbours"] for line in lines[40:])


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


def test_render_size_follows_the_progress() -> None:
    run = distillation(config("optimizer.resolution_steps=[[0.0, 16], [0.5, 24]]"))
    assert run.resolution == 16
    run.iteration = 100
    assert run.resolution == 24


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
