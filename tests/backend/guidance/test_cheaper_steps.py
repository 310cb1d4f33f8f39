"""What makes a step cheaper, on tiny random models: one call for all branches, smaller renders, a small VAE, compilation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from backend import settings
from backend.config import GuidanceConfig, PriorConfig
from backend.errors import PriorError
from backend.gaussians.initialize import initialize
from backend.guidance.load import load_prior
from backend.guidance.memory import MODES, compile_network
from backend.guidance.prompts import ViewPrompts
from backend.guidance.rules import Moment, make_rule
from backend.guidance.small_vae import SmallVae, load_small_vae
from backend.method.optimizer import Distillation
from backend.pipeline import settle

from .tiny_models.answers import answers, prior
from .tiny_models.configurations import PIXELS
from .tiny_models.folders import CPU, write_model


def distil(model: Any, config: Any) -> Distillation:
    small = settings.changed(config, {"gaussians.count": 50, "densification.enabled": False})
    gaussians = initialize(small.gaussians, torch.Generator().manual_seed(0), CPU)
    return Distillation(small, model, gaussians, "a cat")


class TestOnePass:
    @pytest.mark.parametrize("negative", ["", "ugly"])
    def test_all_branches_of_score_distillation_are_one_call(self, negative: str) -> None:
        model, seen = prior("high"), []
        model.networks.denoiser.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
        prompts = ViewPrompts(model, "a cat", negative)
        rule = make_rule(model, GuidanceConfig(scale=7.5))
        words = prompts.views([0.0, 90.0], [0.0, 0.0], torch.eye(4).repeat(2, 1, 1))
        z = torch.randn(2, 4, 16, 16)
        rule(z, torch.full((2,), 500), words, Moment(0.0, 20, 980), torch.Generator().manual_seed(0))
        assert seen == [4], "two views, with the prompt and without"


class TestResolutions:
    def test_multiples_between_half_and_whole_are_shown_as_they_are(self) -> None:
        model = prior()
        assert model.recommended.resolutions == (32,)
        assert model.recommended.resolution_multiple == 4, "one halving in the VAE, one in the denoiser"
        sizes = {size: model.encode_images(torch.rand(1, 3, size, size)).shape[-1] for size in (16, 20, 32)}
        assert sizes == {16: 8, 20: 10, 32: 16}
        for size in (12, 18, 36, 64):
            assert model.encode_images(torch.rand(1, 3, size, size)).shape[-1] == 16, "resized to its own size"
        assert model.encode_images(torch.rand(1, 3, 16, 20)).shape[-2:] == (16, 16)
        for size in (16, 20):
            answers(model, size=size)

    def test_a_run_may_begin_small(self) -> None:
        model = prior()
        wanted = settings.resolve("draft", sets=["optimizer.resolution_steps=[[0.0, 16], [0.5, 32]]", "optimizer.iterations=2"])
        run = distil(model, settle(wanted, model))
        sizes = []
        encode = model.encode_images
        model.encode_images = lambda images: (sizes.append(images.shape[-1]), encode(images))[1]
        run.step()
        run.step()
        assert sizes == [16, 32]


def tiny_vae(**changes: Any) -> Any:
    """One halving and 4 channels, as the tiny model's own VAE has."""
    from diffusers import AutoencoderTiny

    options: dict[str, Any] = {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
        "latent_channels": 4,
    }
    torch.manual_seed(3)
    return AutoencoderTiny(**(options | changes))


class TestSmallVae:
    def test_it_speaks_the_same_language_as_the_models_own(self) -> None:
        """Pictures in -1..1 to z as the denoiser expects it, and back: with its own scale and shift, 1 and 0 where it was published."""
        network = tiny_vae(scaling_factor=0.5, shift_factor=0.25)
        small = SmallVae(network.eval())
        pixels = torch.rand(2, 3, 32, 32) * 2 - 1
        with torch.no_grad():
            z = small.encode(pixels)
            torch.testing.assert_close(z, (network.encoder.layers((pixels + 1) / 2) - 0.25) * 0.5)
            torch.testing.assert_close(small.decode(z), network.decode(z / 0.5 + 0.25).sample)
        published = tiny_vae()
        assert (published.config.scaling_factor, published.config.shift_factor) == (1.0, 0.0)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        tiny_vae().save_pretrained(tmp_path / "small")
        return tmp_path / "small"

    def small_prior(self, folder: Path, mode: str = "high") -> Any:
        model = prior(mode)
        model._small_vae, model._small_vae_until = load_small_vae(str(folder), model.networks.vae, CPU), 0.5
        return model

    @pytest.mark.parametrize("mode", MODES)
    def test_it_is_used_until_its_time_is_over(self, folder: Path, mode: str) -> None:
        model, plain, small = self.small_prior(folder, mode), prior(mode), tiny_vae().eval()
        images = torch.rand(2, 3, 32, 32, requires_grad=True)
        for progress in (0.0, 0.49):
            model.progress = progress
            z = model.encode_images(images)
            expected = small.encode(images * 2 - 1).latents
            torch.testing.assert_close(z, expected, rtol=1e-4, atol=1e-5)
            for ours, theirs in zip(*(torch.autograd.grad(one.square().sum(), images) for one in (z, expected)), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(model.decode(z.detach()), (small.decode(z).sample / 2 + 0.5).clamp(0, 1).detach())
        model.progress = 0.5
        torch.testing.assert_close(model.encode_images(images), plain.encode_images(images))
        torch.testing.assert_close(model.decode(z.detach()), plain.decode(z.detach()))

    def test_a_resumed_run_switches_where_an_uninterrupted_one_does(self, folder: Path) -> None:
        def run() -> Distillation:
            model = self.small_prior(folder)
            return distil(model, settle(settings.resolve("draft", sets=["optimizer.iterations=8", "optimizer.resolution_steps=[]"]), model))

        whole = run()
        lines = [whole.step() for _ in range(8)]
        first = run()
        before = [first.step() for _ in range(6)]
        second = run()
        second.load_state_dict(first.state_dict())
        assert before + [second.step() for _ in range(2)] == lines

    def test_the_loader_takes_it_from_a_folder(self, folder: Path, tmp_path: Path) -> None:
        four = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
        tiny_vae(**four, num_encoder_blocks=(1,) * 4, num_decoder_blocks=(1,) * 4).save_pretrained(folder)
        pipeline = write_model(tmp_path / "model", "sd15")
        plain, small = (
            load_prior(PriorConfig(name=str(pipeline), dtype="float32", small_vae=name), CPU, seed=0) for name in ("none", str(folder))
        )
        images = torch.rand(1, 3, PIXELS, PIXELS)
        assert not torch.allclose(plain.encode_images(images), small.encode_images(images))
        assert plain.fingerprint != small.fingerprint
        assert plain.memory == small.memory
        small.progress = 0.5
        torch.testing.assert_close(plain.encode_images(images), small.encode_images(images))

    def test_one_in_half_precision_alone(self, folder: Path) -> None:
        for file in folder.glob("*.safetensors"):
            file.rename(file.with_suffix(".fp16.safetensors"))
        load_small_vae(str(folder), prior().networks.vae, CPU)

    def test_what_is_refused(self, folder: Path, tmp_path: Path) -> None:
        vae = prior().networks.vae
        with pytest.raises(PriorError, match="no small image encoder"):
            load_small_vae(str(tmp_path / "nowhere"), vae, CPU)
        with pytest.raises(PriorError, match="not on this computer"):
            load_small_vae("nobody/such-a-vae", vae, CPU)
        tiny_vae(latent_channels=16).save_pretrained(tmp_path / "other")
        with pytest.raises(PriorError, match="16 channels"):
            load_small_vae(str(tmp_path / "other"), vae, CPU)
        vae.save_pretrained(tmp_path / "large")
        with pytest.raises(PriorError, match="AutoencoderKL"):
            load_small_vae(str(tmp_path / "large"), vae, CPU)
        (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")
        with pytest.raises(PriorError, match="pickle"):
            load_small_vae(str(folder), vae, CPU)


class TestCompilation:
    def network(self) -> torch.nn.Module:
        return torch.nn.Linear(2, 2)

    def test_the_compiled_network_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[int] = []

        def fake(forward: Any) -> Any:
            return lambda *arguments: (calls.append(1), forward(*arguments))[1]

        monkeypatch.setattr(torch, "compile", fake)
        network, warnings = self.network(), []
        x = torch.randn(1, 2)
        expected = network(x)
        compile_network(network, warnings.append)
        assert torch.equal(network(x), expected)
        assert (calls, warnings) == ([1], [])

    @pytest.mark.parametrize("at_once", [True, False])
    def test_where_it_cannot_be_it_says_so_once_and_goes_on(self, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
        def refuse(*arguments: Any) -> Any:
            raise RuntimeError("no compiler")

        monkeypatch.setattr(torch, "compile", refuse if at_once else lambda forward: refuse)
        network, warnings = self.network(), []
        x = torch.randn(1, 2)
        expected = network(x)
        compile_network(network, warnings.append)
        for _ in range(2):
            assert torch.equal(network(x), expected)
        (warning,) = warnings
        assert "cannot be compiled" in warning

    def test_too_little_memory_is_no_reason_to_give_it_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: Any) -> Any:
            raise torch.OutOfMemoryError

        monkeypatch.setattr(torch, "compile", lambda forward: fail)
        network, warnings = self.network(), []
        compile_network(network, warnings.append)
        with pytest.raises(torch.OutOfMemoryError):
            network(torch.randn(1, 2))
        assert not warnings

    def test_a_prior_passes_the_warning_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(forward: Any) -> Any:
            raise RuntimeError

        monkeypatch.setattr(torch, "compile", refuse)
        model = prior(compile=True)
        (warning,) = model.take_warnings()
        assert "cannot be compiled" in warning
        assert model.take_warnings() == []
        answers(model)
