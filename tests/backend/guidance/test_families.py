"""Every family of image models: saved by the libraries, read back, asked as its own pipeline asks, and distilled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from backend import settings
from backend.cameras import orbit_camera
from backend.gaussians.initialize import initialize
from backend.guidance.noise_schedule import flow_alphas
from backend.guidance.prior import Conditioning
from backend.guidance.prompts import ViewPrompts
from backend.guidance.rules import Moment, make_rule
from backend.job_lines import trace_visits
from backend.method.optimizer import Distillation
from backend.pipeline import settle

from .tiny_models.configurations import CLIP_TOKENS, CLIP_WIDTH, KINDS, PIXELS, T5_WIDTH
from .tiny_models.folders import CPU, load, write_model

PROMPTS = ["a red cat", "", "a dog, side view", "a red cat"]
AZIMUTHS = [10.0, 100.0, 190.0, 280.0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def priors(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: load(folder) for kind, folder in folders.items()}


def placed(prior: Any, prompts: list[str] = PROMPTS) -> Conditioning:
    viewmats = np.stack([orbit_camera(azimuth, 15, 3, 40, PIXELS).viewmat for azimuth in AZIMUTHS[: len(prompts)]])
    return prior.place_cameras(prior.encode_prompts(prompts), torch.from_numpy(viewmats).float())


def ask(
    prior: Any, monkeypatch: pytest.MonkeyPatch, z_t: Tensor, t: Tensor, conditioning: Conditioning
) -> tuple[dict[str, Any], Tensor, Tensor]:
    """(what the denoiser was given by name, what it said, what the prior made of it)."""
    calls: list[tuple[dict[str, Any], Tensor]] = []
    forward = prior._denoiser.forward

    def watch(*args: Any, **kwargs: Any) -> Any:
        said = forward(*args, **kwargs)
        calls.append((dict(zip(("sample", "timestep"), args, strict=False)) | kwargs, said[0]))
        return said

    monkeypatch.setattr(prior._denoiser, "forward", watch)
    noise = prior.predict_noise(z_t, t, conditioning)
    monkeypatch.undo()
    ((given, said),) = calls
    return given, said, noise


SHAPES = {
    "sd15": {"embeddings": (CLIP_TOKENS, CLIP_WIDTH)},
    "sd21": {"embeddings": (CLIP_TOKENS, CLIP_WIDTH)},
    "sdxl": {"embeddings": (CLIP_TOKENS, 2 * CLIP_WIDTH), "pooled": (CLIP_WIDTH,)},
    "deepfloyd": {"embeddings": (77, T5_WIDTH)},
    "mvdream": {"embeddings": (CLIP_TOKENS, CLIP_WIDTH), "cameras": (16,)},
    "sd3": {"embeddings": (CLIP_TOKENS + 256, 2 * CLIP_WIDTH + 8), "pooled": (2 * CLIP_WIDTH,)},
    "sd35": {"embeddings": (CLIP_TOKENS + 256, 2 * CLIP_WIDTH + 8), "pooled": (2 * CLIP_WIDTH,)},
    "flux": {"embeddings": (512, T5_WIDTH), "pooled": (CLIP_WIDTH,)},
}
Z = {"deepfloyd": (3, 64, 64), "sd3": (16, 8, 8), "sd35": (16, 8, 8), "flux": (16, 8, 8)}


@pytest.mark.parametrize("kind", KINDS)
def test_from_prompt_and_picture_to_noise_and_back(priors: dict[str, Any], kind: str) -> None:
    prior = priors[kind]
    assert prior.recommended.resolutions == (64,)
    assert prior.num_train_timesteps == 1000
    conditioning = placed(prior)
    assert {name: tuple(tensor.shape[1:]) for name, tensor in conditioning.tensors.items()} == SHAPES[kind]
    for tensor in prior.encode_prompts(PROMPTS).tensors.values():
        torch.testing.assert_close(tensor[0], tensor[3])
        assert not torch.equal(tensor[0], tensor[2])
    images = torch.rand(4, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    z = prior.encode_images(images)
    assert tuple(z.shape[1:]) == Z.get(kind, (4, 8, 8))
    (gradient,) = torch.autograd.grad(z.square().sum(), images)
    assert gradient.isfinite().all() and gradient.norm() > 0
    twice = Conditioning.concatenate([conditioning, conditioning])
    t = torch.tensor([0, 20, 500, 980, 999, 300, 300, 300])
    noise = prior.predict_noise(z.detach().repeat(2, 1, 1, 1), t, twice)
    assert noise.shape == (8, *z.shape[1:]) and noise.isfinite().all() and not noise.requires_grad
    decoded = prior.decode(z.detach())
    assert decoded.shape == images.shape and decoded.min() >= 0 and decoded.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(folders: dict[str, Path], kind: str, dtype: str) -> None:
    prior = load(folders[kind], dtype=dtype)
    assert prior._denoiser.dtype == getattr(torch, dtype)
    if prior._vae is not None:  # float16 would overflow in it
        assert prior._vae.dtype == (torch.float32 if dtype == "float16" else torch.bfloat16)
    conditioning = placed(prior)
    assert all(tensor.dtype == prior._denoiser.dtype for tensor in conditioning.tensors.values())
    z = prior.encode_images(torch.rand(4, 3, PIXELS, PIXELS))
    noise = prior.predict_noise(z, torch.full((4,), 400), conditioning)
    assert z.dtype == noise.dtype == torch.float32
    assert noise.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "scale", "shift"), [("sd15", 0.18215, 0), ("sdxl", 0.13025, 0), ("sd3", 1.5305, 0.0609), ("flux", 0.3611, 0.1159)]
)
def test_latents_are_shifted_and_scaled(priors: dict[str, Any], kind: str, scale: float, shift: float) -> None:
    prior, images = priors[kind], torch.rand(1, 3, PIXELS, PIXELS)
    with torch.no_grad():
        mean = prior._vae.encode(images * 2 - 1).latent_dist.mean
        picture = prior._vae.decode(mean).sample
    torch.testing.assert_close(prior.encode_images(images), (mean - shift) * scale)
    torch.testing.assert_close(prior.decode((mean - shift) * scale), (picture / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=1e-4)


def test_recommended_where_the_model_says_nothing(tmp_path: Path) -> None:
    wanted = {
        "sd15": (100.0, "sds", (64,)),
        "sdxl": (100.0, "sds", (64, 128)),
        "deepfloyd": (20.0, "sds", (64,)),
        "mvdream": (50.0, "sds", (64,)),
        "sd3": (100.0, "flow", (64, 128)),
        "flux": (1.0, "flow", (512, 1024)),
    }
    for kind, (scale, weighting, resolutions) in wanted.items():
        found = load(write_model(tmp_path / kind, kind, extra=False)).recommended
        assert (found.guidance_scale, found.weighting, found.resolutions) == (scale, weighting, resolutions), kind
        assert found.view_words == (kind != "mvdream")


# As their own pipelines do


def pipeline(kind: str, folder: Path, **absent: None) -> Any:
    import diffusers

    cls = getattr(diffusers, KINDS[kind]["pipeline"])
    others = {"deepfloyd": ("safety_checker", "feature_extractor", "watermarker"), "sdxl": ()}
    absent |= dict.fromkeys(others.get(kind, ("image_encoder", "feature_extractor")))
    return cls.from_pretrained(folder, local_files_only=True, **absent)


def assert_same_reading(ours: Tensor, theirs: Tensor) -> None:
    """Numbers of order 1 from the same weights: sums may be added up in another order from one call to the next."""
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_sdxl_reads_as_its_pipeline_does(priors: dict[str, Any], folders: dict[str, Path]) -> None:
    embeddings, none, pooled, none_pooled = pipeline("sdxl", folders["sdxl"]).encode_prompt("a red cat")
    ours = priors["sdxl"].encode_prompts(["a red cat", ""]).tensors
    assert_same_reading(ours["embeddings"], torch.cat([embeddings, none]))
    assert_same_reading(ours["pooled"], torch.cat([pooled, none_pooled]))
    assert not none.any(), "the empty prompt is zeros"


def test_sdxl_without_zeros_reads_the_empty_prompt(tmp_path: Path) -> None:
    prior = load(write_model(tmp_path, "sdxl", index={"force_zeros_for_empty_prompt": False}))
    assert prior.encode_prompts([""]).tensors["pooled"].any()


def test_deepfloyd_reads_as_its_pipeline_does(priors: dict[str, Any], folders: dict[str, Path]) -> None:
    embeddings, empty = pipeline("deepfloyd", folders["deepfloyd"]).encode_prompt("A red CAT ")
    ours = priors["deepfloyd"].encode_prompts(["A red CAT ", ""]).tensors["embeddings"]
    assert_same_reading(ours, torch.cat([embeddings, empty]))


@pytest.mark.parametrize("kind", ["sd3", "sd35"])
def test_sd3_reads_as_its_pipeline_does(priors: dict[str, Any], folders: dict[str, Path], kind: str) -> None:
    theirs = pipeline(kind, folders[kind])
    theirs.tokenizer_max_length = CLIP_TOKENS
    embeddings, empty, pooled, empty_pooled = theirs.encode_prompt("a red cat", None, None)
    ours = priors[kind].encode_prompts(["a red cat", ""]).tensors
    assert_same_reading(ours["embeddings"], torch.cat([embeddings, empty]))
    assert_same_reading(ours["pooled"], torch.cat([pooled, empty_pooled]))


def test_sd3_without_t5_has_zeros_in_its_place(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "sd3", index={"text_encoder_3": [None, None], "tokenizer_3": [None, None]})
    prior, theirs = load(folder), pipeline("sd3", folder, text_encoder_3=None, tokenizer_3=None)
    theirs.tokenizer_max_length = CLIP_TOKENS
    embeddings, *_ = theirs.encode_prompt("a red cat", None, None)
    ours = prior.encode_prompts(["a red cat"]).tensors["embeddings"]
    assert_same_reading(ours, embeddings)
    assert not ours[:, CLIP_TOKENS:].any() and ours[:, :CLIP_TOKENS].any()


def test_flux_reads_as_its_pipeline_does(priors: dict[str, Any], folders: dict[str, Path]) -> None:
    theirs = pipeline("flux", folders["flux"])
    theirs.tokenizer_max_length = CLIP_TOKENS
    embeddings, pooled, _ = theirs.encode_prompt("a red cat")
    ours = priors["flux"].encode_prompts(["a red cat"]).tensors
    assert_same_reading(ours["embeddings"], embeddings)
    assert_same_reading(ours["pooled"], pooled)


# What the denoiser is given, and what is made of its answer


def test_sdxl_is_told_the_size_and_the_pooled_words(priors: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prior, conditioning = priors["sdxl"], placed(priors["sdxl"])
    z_t, t = torch.randn(4, 4, 8, 8), torch.tensor([1, 200, 500, 900])
    given, said, noise = ask(prior, monkeypatch, z_t, t, conditioning)
    added = given["added_cond_kwargs"]
    assert added["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]] * 4
    torch.testing.assert_close(added["text_embeds"], conditioning.tensors["pooled"])
    torch.testing.assert_close(given["timestep"], t)
    torch.testing.assert_close(noise, said)
    given, *_ = ask(prior, monkeypatch, torch.randn(4, 4, 16, 16), t, conditioning)
    assert added["time_ids"].shape == (4, 6) and given["added_cond_kwargs"]["time_ids"][0].tolist() == [128, 128, 0, 0, 128, 128]


def test_t5_computes_in_what_the_model_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unlike CLIP, which processors compute in single precision in any case."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    folder = write_model(tmp_path / "model", "deepfloyd")
    extra = json.loads((folder / "cograd3d.json").read_text())
    found = []
    for changes in ({}, {"dtype": "float32"}):
        (folder / "cograd3d.json").write_text(json.dumps(extra | changes))
        (read,) = load(folder, dtype="auto")._texts
        found.append(read()[1].dtype)
    assert found == [torch.bfloat16, torch.float32]


def test_deepfloyds_learned_variance_is_dropped(priors: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    prior = priors["deepfloyd"]
    _, said, noise = ask(prior, monkeypatch, torch.randn(2, 3, 64, 64), torch.tensor([5, 800]), placed(prior, PROMPTS[:2]))
    assert said.shape[1] == 6
    torch.testing.assert_close(noise, said[:, :3])


def sigma_by_hand(t: Tensor, shift: float) -> Tensor:
    s = (t.double() + 0.5) / 1000
    return (shift * s / (1 + (shift - 1) * s)).view(-1, 1, 1, 1)


@pytest.mark.parametrize("kind", ["sd3", "sd35"])
def test_sd3_is_shown_the_straight_line_at_a_thousand_sigma(priors: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    prior, conditioning = priors[kind], placed(priors[kind])
    z, eps, t = torch.randn(4, 16, 8, 8), torch.randn(4, 16, 8, 8), torch.tensor([20, 300, 700, 980])
    abar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    given, velocity, noise = ask(prior, monkeypatch, abar.sqrt() * z + (1 - abar).sqrt() * eps, t, conditioning)
    sigma = sigma_by_hand(t, 3.0)
    x_t = ((1 - sigma) * z + sigma * eps).float()
    torch.testing.assert_close(given["hidden_states"], x_t, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(given["timestep"], (1000 * sigma).flatten().float(), rtol=1e-4, atol=0.02)
    torch.testing.assert_close(given["pooled_projections"], conditioning.tensors["pooled"])
    torch.testing.assert_close(noise, (x_t + (1 - sigma) * velocity).float(), atol=1e-4, rtol=1e-4)


def test_flux_is_given_packed_latents_their_places_and_a_guidance(priors: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import FluxPipeline

    prior, conditioning = priors["flux"], placed(priors["flux"])
    z_t, t = torch.randn(4, 16, 8, 8), torch.tensor([20, 300, 700, 980])
    given, said, noise = ask(prior, monkeypatch, z_t, t, conditioning)
    sigma = sigma_by_hand(t, float(np.exp(1.15)))  # the shift of 1024 pixels, whatever the size
    n = ((1 - sigma) ** 2 + sigma**2).sqrt()
    torch.testing.assert_close(given["hidden_states"], FluxPipeline._pack_latents((n * z_t).float(), 4, 16, 8, 8), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(given["img_ids"], FluxPipeline._prepare_latent_image_ids(4, 4, 4, CPU, torch.float32))
    torch.testing.assert_close(given["timestep"], sigma.flatten().float(), rtol=1e-4, atol=1e-4)
    assert given["guidance"].tolist() == [3.5] * 4
    assert given["txt_ids"].shape == (512, 3) and not given["txt_ids"].any()
    velocity = FluxPipeline._unpack_latents(said, 64, 64, 8)
    torch.testing.assert_close(noise, (n * z_t + (1 - sigma) * velocity).float(), atol=1e-4, rtol=1e-4)


def test_flux_schnell_is_given_no_guidance_and_the_text_it_was_trained_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prior = load(write_model(tmp_path, "flux", guidance_embeds=False))
    given, *_ = ask(prior, monkeypatch, torch.randn(1, 16, 8, 8), torch.tensor([300]), placed(prior, ["a red cat"]))
    assert given["guidance"] is None
    assert given["encoder_hidden_states"].shape[1] == len(given["txt_ids"]) == 256


@pytest.mark.parametrize("kind", ["sd3", "flux"])
def test_sds_of_a_flow_is_the_difference_of_velocities(priors: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """g = v_hat(x_t, sigma) - (eps - z), averaged over the views."""
    prior = priors[kind]
    rule = make_rule(prior, settings.resolve("draft", sets=["guidance.scale=1", "guidance.weighting=flow"]).guidance)
    views = ViewPrompts(prior, "a red cat").views(AZIMUTHS, [15.0] * 4, torch.eye(4).expand(4, 4, 4))
    z, t = torch.randn(4, 16, 8, 8), torch.full((4,), 640)
    guidance = rule(z, t, views, Moment(0.5, 20, 980), torch.Generator().manual_seed(7))
    eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(7))
    sigma = sigma_by_hand(t, 3.0 if kind == "sd3" else float(np.exp(1.15))).float()
    velocity = prior.family.predict(
        prior._denoiser, (1 - sigma) * z + sigma * eps, sigma.flatten(), views.positive.tensors, (PIXELS, PIXELS)
    )
    torch.testing.assert_close(guidance.gradient, (velocity - (eps - z)).detach() / 4, atol=1e-3, rtol=1e-3)


# Distilled


def distillation(prior: Any, *sets: str) -> Distillation:
    base = ["gaussians.count=60", "optimizer.iterations=20", "optimizer.views=4", "gradient_fusion.start=0", "gaussians.opacity=0.6"]
    config = settle(settings.resolve("draft", sets=[*base, *sets]), prior)
    model = initialize(config.gaussians, torch.Generator().manual_seed(0), CPU)
    return Distillation(config, prior, model, "a red cat")


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_steps_of_distillation(priors: dict[str, Any], kind: str) -> None:
    run = distillation(priors[kind])
    before = {name: parameter.detach().clone() for name, parameter in run.model.params.items()}
    for _ in range(2):
        lines = trace_visits(run.step())
        assert len(lines) == (1 if kind == "mvdream" else 4)
        assert all(np.isfinite(line["loss"]) and line["loss"] > 0 for line in lines)
    for name, parameter in run.model.params.items():
        assert parameter.isfinite().all(), name
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_only_models_that_bring_their_guidance_with_them_heed_no_negative_prompt(priors: dict[str, Any], kind: str) -> None:
    assert distillation(priors[kind]).rule.heeds_negative_prompt() == (kind != "flux")
    assert distillation(priors[kind], "guidance.scale=2").rule.heeds_negative_prompt()


def test_the_highest_level_of_a_flow_gives_finite_gradients(priors: dict[str, Any]) -> None:
    run = distillation(priors["sd3"], "timestep_sampling.clip_high=1", "timestep_sampling.start=1")
    gradients, losses = run.main_gradients(run.sample_views([0, 1, 2, 3]), [999] * 4)
    assert np.isfinite(losses).all() and all(gradient.isfinite().all() for gradient in gradients.values())
    assert flow_alphas(1000, 3.0)[-1] > 0
