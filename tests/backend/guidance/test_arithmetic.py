"""In which arithmetic a model's networks are computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.config import PriorConfig
from backend.guidance import diffusers_prior
from backend.guidance.diffusers_prior import choose_dtype, load_diffusers_prior
from backend.guidance.kinds import DEEPFLOYD, STABLE_DIFFUSION
from backend.guidance.pipeline_components import text_dtype, vae_dtype
from backend.guidance.pipeline_files import DTYPES
from tests.backend.guidance.tiny_models.pipelines import CPU, edit, load, tiny_unet, tiny_vae, write_pipeline


@pytest.fixture
def bfloat16_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor on which auto is bfloat16, whichever this one is."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


@pytest.mark.usefixtures("bfloat16_units")
@pytest.mark.parametrize("place", ["folder", "hub"])
def test_auto_is_the_arithmetic_that_the_model_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    options: dict[str, Any] = {"device": CPU, "dtype": "auto"}
    folder = write_pipeline(tmp_path / "model", vae=tiny_vae(), extra={"dtype": "float32"})
    monkeypatch.setattr(diffusers_prior, "hub_folder", lambda *_, **__: folder)
    source = folder if place == "folder" else "owner/name"
    needed = load_diffusers_prior(source, **options)
    assert (needed._denoiser.dtype, needed._vae.dtype) == (torch.float32, torch.float32)
    set_by_the_user = load_diffusers_prior(source, **options | {"dtype": "bfloat16"})
    assert (set_by_the_user._denoiser.dtype, set_by_the_user._vae.dtype) == (torch.bfloat16, torch.bfloat16)
    edit(folder / "cograd3d.json", dtype="float16")
    assert load_diffusers_prior(source, **options)._denoiser.dtype == torch.float16
    (folder / "cograd3d.json").unlink()
    assert load_diffusers_prior(source, **options)._denoiser.dtype == torch.bfloat16, "as the device has it"


@pytest.mark.usefixtures("bfloat16_units")
def test_a_needed_arithmetic_is_kept_from_the_prompt_to_the_prediction(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, unet=tiny_unet(3, 16), extra={"dtype": "float32"})
    exact = load(folder)
    prior = load_diffusers_prior(folder, device=CPU)
    z, t = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    conditioning = prior.encode_prompts(["a red cat"])
    assert conditioning.tensors["embeddings"].dtype == torch.float32
    expected = exact.predict_noise(z, t, exact.encode_prompts(["a red cat"]))
    assert torch.equal(prior.predict_noise(z, t, conditioning), expected)


@pytest.mark.parametrize(("dtype", "rounded"), [("float32", False), ("bfloat16", True)])
def test_single_precision_is_not_rounded_by_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, rounded: bool) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    prior = load_diffusers_prior(write_pipeline(tmp_path, unet=tiny_unet(3, 16)), device=CPU, dtype=dtype)
    seen = []
    prior._denoiser.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    prior.predict_noise(torch.randn(1, 3, 16, 16), torch.tensor([500]), prior.encode_prompts(["a red cat"]))
    assert seen == [rounded]
    assert torch.backends.cudnn.allow_tf32
    prior._denoiser.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prior.predict_noise(torch.randn(1, 3, 16, 16), torch.tensor([500]), prior.encode_prompts(["a red cat"]))
    assert torch.backends.cudnn.allow_tf32


def test_choose_dtype() -> None:
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    assert choose_dtype("auto", CPU) in (torch.bfloat16, torch.float32)


def test_what_the_model_needs_goes_before_the_device_and_after_the_setting() -> None:
    assert choose_dtype("auto", torch.device("cuda"), "float32") == torch.float32
    assert choose_dtype("auto", CPU, "float16") == torch.float16
    assert choose_dtype("bfloat16", CPU, "float32") == torch.bfloat16


def test_a_model_may_need_whatever_a_user_may_set() -> None:
    (dtype,) = (field for field in dataclasses.fields(PriorConfig) if field.name == "dtype")
    assert set(DTYPES) == set(dtype.metadata["choices"]) - {"auto"}


@pytest.mark.parametrize(("capability", "expected"), [(7, torch.float32), (8, torch.bfloat16), (9, torch.bfloat16)])
def test_bfloat16_only_where_a_gpu_computes_in_it(monkeypatch: pytest.MonkeyPatch, capability: int, expected: torch.dtype) -> None:
    """What torch itself calls supported it may merely imitate, on every GPU."""
    properties = type("Properties", (), {"major": capability})()
    monkeypatch.setattr(torch.version, "hip", None)
    for name, value in (("is_available", True), ("current_device", 0), ("get_device_properties", properties)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert torch.cuda.is_bf16_supported()
    assert vae_dtype(torch.float16, torch.device("cuda")) == expected
    assert vae_dtype(torch.float16, CPU) == torch.float32
    (t5,), (clip,) = DEEPFLOYD.encoders, STABLE_DIFFUSION.encoders
    assert text_dtype(t5, torch.float16, torch.device("cuda"), CPU) == torch.bfloat16, "half as large"
    assert text_dtype(clip, torch.float16, torch.device("cuda"), CPU) == torch.float32
    assert text_dtype(t5, torch.float16, CPU, CPU) == torch.float32
