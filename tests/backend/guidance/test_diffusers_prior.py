"""Tiny random pipelines, saved and read back through the path that Stable Diffusion takes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from backend.errors import PriorError
from backend.guidance import diffusers_prior
from backend.guidance.hub import files_to_download
from backend.guidance.pipeline_components import build
from backend.guidance.pipeline_files import EXTRA_FILE, check_safetensors, fingerprint
from tests.backend.guidance.tiny_models.pipelines import WIDTH, edit, load, tiny_unet, tiny_vae, write_pipeline


@pytest.fixture(scope="module")
def latent_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pipeline(tmp_path_factory.mktemp("latent"), vae=tiny_vae())


def test_latent_prior(latent_folder: Path) -> None:
    prior = load(latent_folder)
    assert prior.recommended.resolutions == (32,)  # 16 latent pixels, one halving in the VAE
    assert (prior.recommended.guidance_scale, prior.recommended.weighting, prior.recommended.clamp) == (100.0, "sds", 0.0)
    assert prior.num_train_timesteps == 1000
    assert prior.alphas_cumprod[0].item() == pytest.approx(1 - 1e-4)
    conditioning = prior.encode_prompts(["a red cat", "", "a red cat"])
    assert conditioning.tensors["embeddings"].shape == (3, 16, WIDTH)
    torch.testing.assert_close(conditioning.tensors["embeddings"][0], conditioning.tensors["embeddings"][2])
    z = prior.encode_images(torch.rand(3, 3, 32, 32))
    assert z.shape == (3, 4, 16, 16)
    assert prior.predict_noise(z, torch.tensor([0, 500, 999]), conditioning).shape == z.shape
    images = prior.decode(z)
    assert images.shape == (3, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1


def test_latents_are_the_posterior_mean_shifted_and_scaled(tmp_path: Path) -> None:
    vae = tiny_vae(shift_factor=0.5)
    prior = load(write_pipeline(tmp_path, vae=vae))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = (vae.encode(images * 2 - 1).latent_dist.mean - 0.5) * 0.25
    torch.testing.assert_close(prior.encode_images(images), expected)
    torch.testing.assert_close(prior.decode(expected), (vae.decode(expected / 0.25 + 0.5).sample / 2 + 0.5).clamp(0, 1).detach())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_predictions_are_converted_to_noise(tmp_path: Path, prediction: str) -> None:
    folder = write_pipeline(tmp_path / "one", prediction=prediction, vae=tiny_vae())
    same = Path(shutil.copytree(folder, tmp_path / "same"))
    edit(same / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    prior, raw = load(folder), load(same)
    conditioning = prior.encode_prompts(["a dog, side view"])
    z_t, t = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([400])
    output, abar = raw.predict_noise(z_t, t, conditioning), prior.alphas_cumprod[400]
    expected = {
        "epsilon": output,
        "v_prediction": abar.sqrt() * output + (1 - abar).sqrt() * z_t,
        "sample": (z_t - abar.sqrt() * output) / (1 - abar).sqrt(),
    }[prediction]
    torch.testing.assert_close(prior.predict_noise(z_t, t, conditioning), expected)


def test_gradients_reach_the_images_and_not_the_weights(latent_folder: Path) -> None:
    prior = load(latent_folder)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).double().requires_grad_(True)
    prior._vae.double()

    def energy(pixels: torch.Tensor) -> torch.Tensor:
        return prior._vae.encode(pixels * 2 - 1).latent_dist.mode().square().sum() * 0.25**2

    prior.encode_images(images).square().sum().backward()
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-4
    with torch.no_grad():
        numeric = (energy(images + step * direction) - energy(images - step * direction)) / (2 * step)
    assert (images.grad * direction).sum().item() == pytest.approx(numeric.item(), rel=1e-3)
    assert all(parameter.grad is None for parameter in prior._vae.parameters())
    z_t = torch.randn(1, 4, 16, 16, requires_grad=True)
    assert not prior.predict_noise(z_t, torch.tensor([10]), prior.encode_prompts([""])).requires_grad


def test_other_sizes_are_resized_antialiased(latent_folder: Path) -> None:
    prior = load(latent_folder)
    images = torch.rand(1, 3, 80, 80)
    resized = F.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(prior.encode_images(images), prior.encode_images(resized))


def test_pixel_prior_with_stacked_pixels(tmp_path: Path) -> None:
    unet = tiny_unet(12, 8)
    extra = {"pixel_unshuffle": 2, "recommended": {"guidance_scale": 3.0, "weighting": "x0", "clamp": 1.5, "distance": [3.1, 3.5]}}
    prior = load(write_pipeline(tmp_path, prediction="sample", unet=unet, extra=extra))
    assert prior.recommended.resolutions == (16,)
    assert (prior.recommended.guidance_scale, prior.recommended.weighting, prior.recommended.distance) == (3.0, "x0", (3.1, 3.5))
    images = torch.rand(2, 3, 16, 16)
    z = prior.encode_images(images)
    torch.testing.assert_close(z, images * 2 - 1)
    torch.testing.assert_close(prior.decode(z), images)
    conditioning, t = prior.encode_prompts(["a cat", ""]), torch.tensor([300, 800])
    with torch.no_grad():
        clean = F.pixel_shuffle(unet(F.pixel_unshuffle(z, 2), t, conditioning.tensors["embeddings"]).sample, 2)
    abar = prior.alphas_cumprod[t].view(-1, 1, 1, 1)
    torch.testing.assert_close(prior.predict_noise(z, t, conditioning), (z - abar.sqrt() * clean) / (1 - abar).sqrt())


def test_prompts_of_a_builtin_model_are_rephrased(tmp_path: Path) -> None:
    prior = load(write_pipeline(tmp_path, extra={"pixel_unshuffle": 2, "prompts": "builtin-world"}, unet=tiny_unet(12, 8)))
    said, meant = prior.encode_prompts(["a DSLR photo of a GREY kitten, from behind", "a gray cat, back view"]).tensors["embeddings"]
    torch.testing.assert_close(said, meant)


def test_text_encoder_is_read_once_a_batch_of_new_prompts(latent_folder: Path) -> None:
    prior = load(latent_folder)
    loads = []
    (read,) = prior._texts
    prior._texts = (lambda: (loads.append(1), read())[1],)
    for prompts in (["a cat", "a dog"], ["a dog", "a cat"], ["a car"]):
        prior.encode_prompts(prompts)
    assert len(loads) == 2


def test_fingerprint_names_the_weights_and_not_the_place(tmp_path: Path, latent_folder: Path) -> None:
    copy = Path(shutil.copytree(latent_folder, tmp_path / "copy"))
    assert load(copy).fingerprint == load(latent_folder).fingerprint
    without_extra = load(copy).fingerprint
    (copy / EXTRA_FILE).write_text('{"format": 1}')
    with_extra = load(copy).fingerprint
    assert with_extra != without_extra
    copy = copy.rename(tmp_path / "renamed")
    assert load(copy).fingerprint == with_extra
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_out.bias"] += 1
    save_file(tensors, path)
    assert load(copy).fingerprint != load(latent_folder).fingerprint


def test_fingerprint_of_a_large_file_sees_its_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.guidance.pipeline_files.FULL_HASH_LIMIT", 1000)
    path = tmp_path / "large.safetensors"
    values = torch.zeros(2**20)  # 4 MiB
    prints = set()
    for place in (None, 0, -1):
        changed = values.clone()
        if place is not None:
            changed[place] = 1
        save_file({"x": changed}, path)
        prints.add(fingerprint([path], path))
    assert len(prints) == 3


def test_half_precision_variant_is_found(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae())
    for component, name in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (folder / component / f"{name}.safetensors").rename(folder / component / f"{name}.fp16.safetensors")
    assert load(folder).encode_prompts(["a cat"]).tensors["embeddings"].shape == (1, 16, WIDTH)


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_damaged_weights_are_refused(tmp_path: Path, component: str) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae())
    path = next((folder / component).glob("*.safetensors"))
    whole = path.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(PriorError, match=match) as caught:
            load(folder).encode_prompts(["a cat"])
        assert caught.value.remedy

    path.write_bytes(whole[:-100])
    refused("truncated")
    path.write_bytes(b"\x80\x04pickle")
    refused("no safetensors")
    tensors = load_file_from(whole)
    name = next(name for name in sorted(tensors) if name.endswith("weight") and tensors[name].ndim == 2)
    save_file(tensors | {name: torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    refused(component)
    save_file({key: value for key, value in tensors.items() if key != name}, path, metadata={"format": "pt"})
    refused("lacks 1 tensors")
    path.unlink()
    refused("no weights")
    path.with_suffix(".bin").write_bytes(b"")
    refused("pickle")


def load_file_from(data: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load as load_bytes

    return load_bytes(data)


def test_folder_that_is_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(PriorError, match="no diffusers pipeline"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(PriorError, match="JSON"):
        load(tmp_path)
    with pytest.raises(PriorError, match="There is no model"):
        load(tmp_path / "missing")


def test_a_folder_of_another_family_is_named(tmp_path: Path, latent_folder: Path) -> None:
    index = json.loads((latent_folder / "model_index.json").read_text()) | {"text_encoder": ["transformers", "GemmaModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(PriorError, match=f"'{re.escape(str(tmp_path))}' is .* GemmaModel") as caught:
        load(tmp_path)
    assert "SDXL" in caught.value.remedy


def test_inpainting_denoiser_is_refused(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae(), unet=tiny_unet(9, 16, out_channels=4))
    with pytest.raises(PriorError, match="takes 9 and gives 4"):
        load(folder)


@pytest.mark.parametrize(
    "changes", [{"_class_name": "FlowMatchEulerDiscreteScheduler"}, {"beta_schedule": "sigmoid"}, {"prediction_type": "flow_prediction"}]
)
def test_unknown_scheduler_is_refused(tmp_path: Path, changes: dict[str, str]) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae())
    edit(folder / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(PriorError, match="unknown"):
        load(folder)


@pytest.mark.parametrize(
    "extra",
    [
        {"format": 2},
        {"pixel_unshuffle": 0},
        {"pixel_unshuffle": "4"},
        {"dtype": "float8"},
        {"dtype": "auto"},
        {"dtype": None},
        {"dtype": ["float32"]},
        {"recommended": {"warmth": 1}},
        {"recommended": {"resolutions": []}},
    ],
)
def test_malformed_extra_file_is_refused(tmp_path: Path, extra: dict[str, Any]) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae(), extra=extra)
    with pytest.raises(PriorError, match=r"cograd3d\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("unet/config.json", {"sample_size": None}, r"The unet of '.*' has None as its sample_size"),
        ("unet/config.json", {"sample_size": "x"}, "'x' as its sample_size"),
        ("unet/config.json", {"sample_size": 0}, "0 as its sample_size"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 0}, "has 0 as its number of timesteps"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": -1}, "has -1 as its number of timesteps"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "x"}, "has 'x' as its number of timesteps"),
        ("scheduler/scheduler_config.json", {"beta_start": "x"}, "do not fit together .TypeError: linspace"),
        ("scheduler/scheduler_config.json", {"trained_betas": "x"}, "do not fit together .TypeError"),
    ],
)
def test_malformed_configurations_are_refused(tmp_path: Path, file: str, changes: dict[str, Any], said: str) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae())
    edit(folder / file, **changes)
    with pytest.raises(PriorError, match=said) as error:
        load(folder)
    assert error.value.remedy and "\n" not in str(error.value)


def test_a_denoiser_that_names_no_size_is_refused(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae())
    config = json.loads((folder / "unet" / "config.json").read_text())
    del config["sample_size"]
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PriorError, match="sample_size"):
        load(folder)


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run takes a lower mode when memory runs out, which it must be able to tell."""
    folder = write_pipeline(tmp_path)

    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(diffusers_prior, "from_folder", fail)
    with pytest.raises(torch.OutOfMemoryError):
        load(folder)


@pytest.mark.parametrize("cls", ["UNet2DConditionModel", "AutoencoderKL"])
def test_a_lack_of_memory_while_weights_are_read_is_none_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: str) -> None:
    import diffusers

    folder = write_pipeline(tmp_path, vae=tiny_vae())

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes.")

    monkeypatch.setattr(getattr(diffusers, cls), "from_pretrained", fail)
    with pytest.raises(RuntimeError, match="not enough memory"):
        load(folder)
    with pytest.raises(RuntimeError, match="not enough memory"):
        build(fail, {}, dict, torch.float32, "denoiser")


def test_damaged_or_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, vae=tiny_vae())
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(PriorError, match="tokenizer"):
        load(folder).encode_prompts(["a cat"])
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(PriorError, match="tokenizer"):
        load(folder).encode_prompts(["a cat"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x"], "no text encoder, and"),
        (["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.x"], "no VAE, and"),
    ],
)
def test_single_files_without_a_component(tmp_path: Path, names: list[str], said: str) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(1) for name in names}, path)
    with pytest.raises(PriorError, match=said):
        load(path)


def test_safetensors_header(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2, 3)}, path)
    assert check_safetensors(path)["a"]["shape"] == [2, 3]
    for bad in (b"", b"1234", (10).to_bytes(8, "little") + b"{", (2**62).to_bytes(8, "little") + b"{}"):
        path.write_bytes(bad)
        with pytest.raises(PriorError):
            check_safetensors(path)


def test_nothing_is_fetched_without_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def snapshot(repo: str, **options: Any) -> str:
        asked.append(options)
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(PriorError, match="consent"):
        load("owner/name")
    assert asked == [{"local_files_only": True}]


def test_consent_does_not_count_where_the_network_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked = []

    def snapshot(repo: str, **options: object) -> str:
        asked.append(options)
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(PriorError, match="network may not be used") as caught:
        load("owner/name", allow_download=True)
    assert "online access" in caught.value.remedy and asked == [{"local_files_only": True}]


def test_a_cached_hub_model_is_read(monkeypatch: pytest.MonkeyPatch, latent_folder: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **options: str(latent_folder))
    assert load("owner/name").recommended.resolutions == (32,)


def test_files_to_download() -> None:
    files = ["README.md", "v1-5.ckpt", "v1-5.safetensors", "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt"]
    files += ["safety_checker/model.safetensors", "unet/config.json", "unet/diffusion_pytorch_model.bin", "text_encoder/model.safetensors"]
    files += ["unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "text_encoder/config.json"]
    files += ["unet/diffusion_pytorch_model.non_ema.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    common = {"model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt", "unet/config.json", "vae/config.json"}
    common |= {"text_encoder/config.json", "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"}
    assert set(files_to_download(files, half=False)) == common | {"unet/diffusion_pytorch_model.safetensors"}
    assert set(files_to_download(files, half=True)) == common | {"unet/diffusion_pytorch_model.fp16.safetensors"}
