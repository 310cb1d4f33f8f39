"""Memory modes, on tiny random models: what they change, that the answers stay, and which one `auto` chooses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.bench.shapes import SHAPES
from backend.guidance import memory
from backend.guidance.memory import MODES, Networks, choose_mode, lower_mode, plan, required_bytes
from backend.guidance.prior import Conditioning
from backend.guidance.text_encoders import TextReader

from .tiny_models.answers import answers, prior
from .tiny_models.configurations import KINDS, PIXELS
from .tiny_models.folders import CPU, load, write_model

CUDA = torch.device("cuda")


def check_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Up to rounding, which depends on the size of a batch."""
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()


class TestModes:
    @pytest.mark.parametrize("mode", ["normal", "low"])
    def test_every_mode_gives_the_same_answers(self, mode: str) -> None:
        check_same(answers(prior(mode)), answers(prior("high")))

    def test_a_mode_may_be_changed_between_two_steps(self) -> None:
        model = prior("high")
        expected = answers(model)
        for mode in ("low", "normal", "high"):
            model.use_memory(mode)
            assert model.memory == mode
            check_same(answers(model), expected)

    @pytest.mark.parametrize("kind", KINDS)
    def test_in_every_family(self, tmp_path: Path, kind: str) -> None:
        """And at every size that it takes."""
        model = load(write_model(tmp_path / "model", kind), memory="high")
        sizes = [size for size in range(1, PIXELS + 1) if model.recommended.serves(size)]
        assert sizes[-1] == PIXELS
        for size in sizes[:: max(1, len(sizes) - 1)]:
            model.use_memory("high")
            expected = answers(model, views=4, size=size)
            model.use_memory("low")
            check_same(answers(model, views=4, size=size), expected)

    @pytest.mark.parametrize(("mode", "rows"), [("high", [6]), ("normal", [6]), ("low", [1] * 6)])
    def test_rows_of_a_prediction(self, mode: str, rows: list[int]) -> None:
        model, seen = prior(mode), []
        model.networks.denoiser.register_forward_pre_hook(lambda module, arguments: seen.append(len(arguments[0])))
        answers(model)
        assert seen == rows

    def test_views_that_are_predicted_together_stay_together(self) -> None:
        networks = Networks(torch.nn.Identity(), None, CPU, "low", group=4)
        seen: list[int] = []

        def ask(z_t: Tensor, t: Tensor, words: Conditioning) -> Tensor:
            assert len(z_t) == len(t) == len(words)
            seen.append(len(z_t))
            return z_t * t.view(-1, 1)

        z, t, words = torch.randn(8, 3), torch.arange(8), Conditioning(tuple("abcdefgh"))
        assert torch.equal(networks.predict(ask, z, t, words), z * t.view(-1, 1))
        assert seen == [4, 4]

    @pytest.mark.parametrize(("mode", "pictures"), [("high", [3]), ("normal", [1] * 6), ("low", [1] * 6)])
    def test_the_encoder_computes_again_instead_of_keeping(self, mode: str, pictures: list[int]) -> None:
        model, seen = prior(mode), []
        encode = model.networks.vae.encode
        model.networks.vae.encode = lambda pixels: (seen.append(len(pixels)), encode(pixels))[1]
        answers(model)
        assert seen == pictures, "in the forward pass, and again in the backward pass"

    def test_what_is_kept_for_the_backward_pass_falls_with_the_mode(self) -> None:
        kept = {mode: self._kept(prior(mode)) for mode in MODES}
        assert kept["normal"] == kept["low"] < 0.05 * kept["high"]

    def test_block_by_block_less_is_held_while_a_picture_is_differentiated(self) -> None:
        """Of the VAE alone, and in evaluation mode: the library's own switch does not look at training mode."""
        vae = prior("low").networks.vae
        assert not vae.training
        images = torch.rand(1, 3, 64, 64, requires_grad=True)
        blockwise = _bytes_kept(lambda: vae.encode(images))
        vae.disable_gradient_checkpointing()
        assert blockwise < 0.7 * _bytes_kept(lambda: vae.encode(images))

    @staticmethod
    def _kept(model: Any) -> int:
        images = torch.rand(4, 3, 32, 32, requires_grad=True)
        return _bytes_kept(lambda: model.encode_images(images))

    def test_nothing_is_computed_twice_for_a_single_view_unless_memory_is_low(self) -> None:
        model, seen = prior("normal"), []
        encode = model.networks.vae.encode
        model.networks.vae.encode = lambda pixels: (seen.append(len(pixels)), encode(pixels))[1]
        answers(model, views=1)
        assert seen == [1]

    def test_modes_in_order(self) -> None:
        assert [lower_mode(mode) for mode in (*MODES, "", "auto")] == ["normal", "low", None, None, None]
        assert plan("low", CUDA).offload
        assert not plan("low", CPU).offload
        low_on_a_mac = plan("low", torch.device("mps"))
        assert (low_on_a_mac.offload, low_on_a_mac.slice_attention) == (False, True)
        assert not plan("low", CUDA).slice_attention


def _bytes_kept(compute: Any) -> int:
    """Bytes of what a computation keeps for its backward pass, parameters not counted."""
    kept: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(size for size, _ in kept.values())


class TestTakingTurns:
    """Two networks on a device that has room for one. Away from it, their weights are poison."""

    @pytest.fixture
    def model(self) -> Any:
        """A tiny prior whose networks are moved as on a GPU in the lowest mode."""
        model = prior("low")
        here: set[int] = set()
        weights = {
            id(network): {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
            for network in (model.networks.denoiser, model.networks.vae)
        }

        def move(network: Any, device: torch.device) -> None:
            (here.discard if device.type == "cpu" else here.add)(id(network))
            assert len(here) <= 1, "never two at a time"
            for name, parameter in network.named_parameters():
                parameter.data = weights[id(network)][name] if id(network) in here else torch.full_like(parameter, torch.nan)

        model.networks = Networks(model.networks.denoiser, model.networks.vae, SimpleNamespace(type="cuda"), "low", move=move)
        assert model.networks.plan.offload
        return model

    def test_the_answers_are_right_though_each_is_away_while_the_other_works(self, model: Any) -> None:
        for _ in range(2):
            check_same(answers(model), answers(prior("high")))

    def test_a_mode_with_room_for_both_brings_both(self, model: Any) -> None:
        answers(model)
        networks, moved = model.networks, []
        networks._move = lambda network, device: moved.append((network, device.type))
        networks.use("normal")
        assert moved == [(networks.denoiser, "cuda"), (networks.vae, "cuda")]


class TestRoomForTheWords:
    """Text encoders can be larger than all that a step needs beside the weights: T5 is, beside DeepFloyd IF."""

    def model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, device: str) -> tuple[Any, set[str]]:
        """A prior as on such a device, whose text encoder finds room only where no network is; and the networks that are there."""
        model, here = load(write_model(tmp_path, "sd15"), memory="high"), set[str]()
        networks = {id(model.networks.denoiser): "denoiser", id(model.networks.vae): "vae"}

        def move(network: Any, to: Any) -> None:
            (here.discard if to.type == "cpu" else here.add)(networks[id(network)])

        embed = model.family.embed

        def in_what_is_free(*args: Any) -> Any:
            if here:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return embed(*args)

        monkeypatch.setattr(type(model.family), "embed", lambda family, *args: in_what_is_free(*args))
        model.networks = Networks(model.networks.denoiser, model.networks.vae, SimpleNamespace(type=device), mode, move=move)
        return model, here

    @pytest.mark.parametrize("mode", MODES)
    def test_where_there_is_none_the_networks_step_aside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
        model, here = self.model(tmp_path, monkeypatch, mode, "cuda")
        model.decode(torch.zeros(1, 4, 8, 8))
        before = set(here)
        assert before == ({"vae"} if mode == "low" else {"denoiser", "vae"})
        words = model.encode_prompts(["a red cat", ""]).tensors["embeddings"]
        assert len(words) == 2 and words.isfinite().all()
        assert here == (set() if mode == "low" else before)
        model.decode(torch.zeros(1, 4, 8, 8))
        assert here == before

    @pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux"])
    def test_where_it_is_too_small_for_them_alone_the_processor_reads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        model = load(write_model(tmp_path, kind), memory="normal")
        expected = model.encode_prompts(["a red cat", ""]).tensors
        model._embeddings.clear()
        networks, read = model.networks, [0, 0]
        model.networks = Networks(networks.denoiser, networks.vae, SimpleNamespace(type="cuda"), "normal", move=lambda *_: None)

        def on(reader: TextReader) -> TextReader:
            def where_there_is_room(place: Any) -> tuple[Any, Any]:
                read[place.type == "cpu"] += 1
                if place.type != "cpu":
                    raise torch.OutOfMemoryError("CUDA out of memory.")
                return reader.read(place)

            return TextReader(where_there_is_room, SimpleNamespace(type="cuda"))  # type: ignore[arg-type]

        model._texts = tuple(map(on, model._texts))
        ours = model.encode_prompts(["a red cat", ""]).tensors
        assert read == [2, len(model._texts)], "beside the networks, without them, on the processor"
        assert "the processor has read the prompts" in model.take_warnings()[-1]
        for name, tensor in expected.items():
            torch.testing.assert_close(ours[name], tensor)

    def test_where_they_share_its_memory_they_have_nowhere_to_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model, here = self.model(tmp_path, monkeypatch, "high", "mps")
        assert here
        with pytest.raises(torch.OutOfMemoryError):
            model.encode_prompts(["a red cat"])


class TestAuto:
    def shape(self, name: str) -> tuple[Any, Any, int]:
        """Networks that have their sizes and nothing else."""
        from diffusers import AutoencoderKL, UNet2DConditionModel

        with torch.device("meta"):
            denoiser, vae = UNet2DConditionModel(**SHAPES[name].denoiser), AutoencoderKL(**SHAPES[name].vae)
        return denoiser.half(), vae.bfloat16(), 8 * denoiser.config.sample_size

    def test_what_is_asked_for_is_taken(self) -> None:
        assert choose_mode("high", CUDA, None, None, 512, free=0) == "high"

    @pytest.mark.parametrize(("gigabytes", "mode"), [(40, "high"), (24, "high"), (8, "normal"), (4, "low"), (1, "low")])
    def test_stable_diffusion_on_usual_cards(self, gigabytes: float, mode: str) -> None:
        assert choose_mode("auto", CUDA, *self.shape("sd15"), free=int(gigabytes * 2**30)) == mode

    @pytest.mark.parametrize(("gigabytes", "mode"), [(80, "high"), (48, "normal"), (24, "low")])
    def test_flux_on_usual_cards(self, gigabytes: float, mode: str) -> None:
        """Its tokens are patches of 2 x 2 although its configuration says 1: they reach it as channels."""
        from diffusers import AutoencoderKL, FluxTransformer2DModel

        sizes = {"joint_attention_dim": 4096, "num_attention_heads": 24, "pooled_projection_dim": 768}
        with torch.device("meta"):
            denoiser = FluxTransformer2DModel(**(KINDS["flux"]["transformer"] | sizes | {"attention_head_dim": 128, "num_layers": 1}))
            vae = AutoencoderKL(**(SHAPES["sd15"].vae | {"latent_channels": 16}))
        denoiser, vae = denoiser.half(), vae.bfloat16()
        rest = 12e9 * 2 - memory._weight_bytes(denoiser)  # of its 57 blocks here are 2
        assert choose_mode("auto", CUDA, denoiser, vae, 1024, free=int(gigabytes * 2**30 - rest / memory.USABLE)) == mode

    def test_the_modes_need_less_and_less(self) -> None:
        for name in ("sd15", "sdxl"):
            needed = [required_bytes(mode, CUDA, *self.shape(name)) for mode in MODES]
            assert needed == sorted(needed, reverse=True)
            assert needed[0] > 1.5 * needed[1] > 1.5 * needed[2]

    def test_the_estimate_of_the_encoder_is_what_it_keeps(self) -> None:
        from diffusers import AutoencoderKL

        vae = AutoencoderKL(**(SHAPES["sd15"].vae | {"block_out_channels": (32, 64, 128, 128)})).requires_grad_(False)
        images = torch.rand(1, 3, 64, 64, requires_grad=True)
        assert memory._encoder_bytes(vae, 64) == pytest.approx(_bytes_kept(lambda: vae.encode(images)), rel=0.1)

    def test_where_nobody_can_tell_it_is_the_middle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("backend.machine.memory", lambda: (None, None))
        model = prior("high")
        assert choose_mode("auto", CPU, model.networks.denoiser, model.networks.vae, 32) == "normal"

    def test_weights_in_main_memory_are_not_counted_twice(self) -> None:
        denoiser, vae, size = self.shape("sd15")
        on_gpu, on_cpu = (required_bytes("normal", device, denoiser, vae, size) for device in (CUDA, CPU))
        assert on_gpu - on_cpu == sum(p.numel() * 2 for network in (denoiser, vae) for p in network.parameters())

    def test_it_is_settled_when_the_prior_is_made(self) -> None:
        assert prior("auto").memory in MODES
