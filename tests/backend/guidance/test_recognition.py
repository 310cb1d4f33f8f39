"""Which kind of image model a folder or a file is, or what else, and what to do about that."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from backend.environment import PACKAGE_ROOT
from backend.errors import PriorError
from backend.guidance import recognition
from backend.guidance.families import FAMILIES, family_of
from backend.guidance.kinds import CLIP, CLIP_PROJECTED, KINDS, T5, Kind
from backend.guidance.recognition import SingleFile, UnsupportedModelError, recognise_file, recognise_header, recognise_index


def test_every_kind_has_a_family() -> None:
    assert FAMILIES.keys() == KINDS.keys()
    for key, kind in KINDS.items():
        assert kind.key == key and family_of(kind).kind is kind


@pytest.mark.parametrize("module", ["backend.guidance.recognition", "backend.model_files"])
def test_needs_the_standard_library_alone(module: str) -> None:
    said = f"import sys, {module}; print(sorted(sys.modules.keys() & {{'torch', 'numpy', 'diffusers', 'transformers', 'safetensors'}}))"
    answer = subprocess.run([sys.executable, "-c", said], cwd=PACKAGE_ROOT, capture_output=True, text=True, timeout=60)
    assert answer.stdout.strip() == "[]", answer.stderr


def refusal(caught: pytest.ExceptionInfo[UnsupportedModelError]) -> UnsupportedModelError:
    error = caught.value
    assert "'it'" in error.message and error.message.count(". ") == 0, "one sentence, which names the model"
    assert error.remedy and error.group
    return error


# Folders

UNET = "UNet2DConditionModel"
PIPELINES: dict[str, dict[str, str]] = {
    "sd": {"_class_name": "StableDiffusionPipeline", "unet": UNET, "text_encoder": CLIP, "vae": "AutoencoderKL"},
    "sdxl": {
        "_class_name": "StableDiffusionXLPipeline",
        "unet": UNET,
        "text_encoder": CLIP,
        "text_encoder_2": CLIP_PROJECTED,
        "vae": "AutoencoderKL",
    },
    "sd3": {
        "_class_name": "StableDiffusion3Pipeline",
        "transformer": "SD3Transformer2DModel",
        "text_encoder": CLIP_PROJECTED,
        "text_encoder_2": CLIP_PROJECTED,
        "text_encoder_3": T5,
        "vae": "AutoencoderKL",
    },
    "flux": {
        "_class_name": "FluxPipeline",
        "transformer": "FluxTransformer2DModel",
        "text_encoder": CLIP,
        "text_encoder_2": T5,
        "vae": "AutoencoderKL",
    },
    "if": {"_class_name": "IFPipeline", "unet": UNET, "text_encoder": T5},
    "mvdream": {"_class_name": "MVDreamPipeline", "unet": "MultiViewUNetModel", "text_encoder": CLIP, "vae": "AutoencoderKL"},
}
CAMERAS = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}


def index_of(kind: str, changes: Mapping[str, str | None] | None = None) -> dict[str, Any]:
    """A model_index.json."""
    components = PIPELINES[kind] | (changes or {})
    entries = {name: cls if name.startswith("_") else ["library" if cls else None, cls] for name, cls in components.items()}
    return entries | {"_diffusers_version": "0.30.0", "safety_checker": [None, None], "force_zeros_for_empty_prompt": True}


def folder_kind(kind: str, changes: Mapping[str, str | None] | None = None, config: Mapping[str, Any] | None = None) -> Kind:
    return recognise_index(index_of(kind, changes), config or {}, "it")


def test_every_kind_of_folder() -> None:
    assert PIPELINES.keys() == KINDS.keys()
    for kind in PIPELINES:
        assert folder_kind(kind) is KINDS[kind]


def test_a_network_that_only_its_configuration_tells_apart() -> None:
    assert folder_kind("sd", config=CAMERAS) is KINDS["mvdream"]
    assert folder_kind("sd", config=CAMERAS | {"projection_class_embeddings_input_dim": 512}) is KINDS["sd"]
    assert folder_kind("mvdream", {"image_encoder": "CLIPVisionModel"}, {"ip_dim": 0}) is KINDS["mvdream"]


def test_what_a_kind_may_lack() -> None:
    assert folder_kind("sd", {"vae": None}) is KINDS["sd"], "a model of pixels"
    assert folder_kind("sd3", {"text_encoder_3": None}) is KINDS["sd3"]


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("sd", {"_class_name": "StableDiffusionInpaintPipeline"}, "StableDiffusionInpaintPipeline fills in pictures"),
        ("if", {"_class_name": "IFSuperResolutionPipeline"}, "enlarges pictures"),
        ("sd", {"_class_name": "VideoToVideoPipeline"}, "makes films"),
        ("sd", {"_class_name": "StableDiffusionControlNetPipeline"}, "is steered by pictures"),
        ("sdxl", {"text_encoder": None}, "a refiner"),
        ("sd", {"unet": "UNetSpatioTemporalConditionModel"}, "without a text-conditioned UNet"),
        ("sd", {"unet": "UNet2DModel"}, "without a text-conditioned UNet"),
        ("sd", {"text_encoder": "RobertaSeriesModelWithTransformation"}, "text encoder is RobertaSeriesModelWithTransformation"),
        ("sd", {"text_encoder": None}, "text encoder is missing"),
        ("sd", {"vae": "VQModel"}, "image encoder is VQModel"),
        ("sdxl", {"vae": "AutoencoderTiny"}, "image encoder is AutoencoderTiny"),
        ("flux", {"transformer": "WanTransformer3DModel"}, r"a diffusion transformer \(FluxPipeline\) of an unknown family"),
        ("mvdream", {"image_encoder": "CLIPVisionModel"}, "ImageDream"),
    ],
)
def test_other_folders(kind: str, changes: dict[str, str | None], said: str) -> None:
    with pytest.raises(UnsupportedModelError, match=said) as caught:
        folder_kind(kind, changes)
    assert refusal(caught).group == "of another kind"


def test_image_dream_by_its_configuration() -> None:
    with pytest.raises(UnsupportedModelError, match="ImageDream"):
        folder_kind("mvdream", config={"ip_dim": 16})


@pytest.mark.parametrize(("kind", "component"), [("sd3", "text_encoder"), ("flux", "vae"), ("sdxl", "vae"), ("mvdream", "text_encoder")])
def test_folders_without_a_component(kind: str, component: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"a {KINDS[kind].name} model without its {component}") as caught:
        folder_kind(kind, {component: None})
    assert refusal(caught).group == "incomplete"


@pytest.mark.parametrize("index", [{}, {"unet": ["x", {}]}, {"unet": 3, "transformer": ["x", []]}, {"_class_name": []}])
def test_indices_that_make_no_sense(index: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError):
        recognise_index(index, {}, "it")


def test_a_folder_on_disk(tmp_path: Path) -> None:
    assert recognition.recognise_folder(tmp_path, index_of("sd")) is KINDS["sd"]
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(json.dumps(CAMERAS))
    assert recognition.recognise_folder(tmp_path, index_of("sd")) is KINDS["mvdream"]


# Files

PREFIX = "model.diffusion_model."
INPUTS = "input_blocks.0.0.weight"
SECOND = "input_blocks.1.1.proj_in.weight"
LABEL = "label_emb.0.0.weight"
SD3 = "joint_blocks.0.context_block.attn.qkv.weight"
FLUX = ("double_blocks.0.img_attn.qkv.weight", "img_in.weight", "vector_in.in_layer.weight")
SHAPES = {INPUTS: [320, 4, 3, 3], SECOND: [320, 320, 1, 1], "img_in.weight": [3072, 64], "x_embedder.proj.weight": [1536, 16, 2, 2]}
"""Of tensors whose shapes tell something."""


def header_of(names: Sequence[str], *, dtype: str = "F16", shapes: Mapping[str, list[int]] | None = None) -> dict[str, Any]:
    """A safetensors header."""
    known = SHAPES | (shapes or {})
    return {name: {"dtype": dtype, "shape": known.get(name.removeprefix(PREFIX), [1]), "data_offsets": [0, 2]} for name in names}


@pytest.mark.parametrize(
    ("names", "kind", "label"),
    [
        ((INPUTS,), "sd", "Stable Diffusion 1"),
        ((INPUTS, SECOND), "sd", "Stable Diffusion 1"),
        ((INPUTS, LABEL), "sdxl", "Stable Diffusion XL"),
        ((INPUTS, "camera_embed.0.weight"), "mvdream", "MVDream"),
        ((SD3, "x_embedder.proj.weight"), "sd3", "Stable Diffusion 3 medium"),
        ((SD3, "joint_blocks.0.x_block.attn2.qkv.weight"), "sd3", "Stable Diffusion 3.5 medium"),
        ((SD3, "joint_blocks.37.x_block.attn.qkv.weight"), "sd3", "Stable Diffusion 3.5 large"),
        (FLUX, "flux", "FLUX.1 [schnell]"),
        ((*FLUX, "guidance_in.in_layer.weight"), "flux", "FLUX.1 [dev]"),
    ],
)
@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_every_kind_of_file(names: Sequence[str], kind: str, label: str, prefix: str) -> None:
    found = recognise_header(header_of([prefix + name for name in names]), "it")
    assert (found.kind, found.variant.label, found.prefix) == (KINDS[kind], label, prefix)
    assert found.variant.repository.count("/") == 1
    assert found.absent == (*(encoder.component for encoder in found.kind.encoders if not encoder.optional), "vae")


def test_the_second_generation_has_linear_layers() -> None:
    found = recognise_header(header_of([INPUTS, SECOND], shapes={SECOND: [320, 320]}), "it")
    assert found.variant.label == "Stable Diffusion 2"


def whole(*names: str) -> SingleFile:
    return recognise_header(header_of([PREFIX + names[0], *names[1:]]), "it")


def test_what_is_in_a_file() -> None:
    found = whole(INPUTS, "first_stage_model.x", "cond_stage_model.model.x")
    assert found.has_vae and found.text_prefixes == ("cond_stage_model.model.",) and found.absent == ()
    assert whole(INPUTS, "vae.x", "cond_stage_model.transformer.x").absent == ()
    assert whole(INPUTS, "first_stage_model.x").absent == ("text_encoder",)
    clips = ("text_encoders.clip_l.transformer.x", "text_encoders.clip_g.transformer.x")
    found = whole(SD3, "vae.x", *clips)
    assert found.text_prefixes[2] is None and found.absent == (), "T5 may be left out"
    assert whole(SD3, "vae.x", clips[0]).absent == ("text_encoder_2",)


@pytest.mark.parametrize(
    ("names", "said", "group"),
    [
        (["lora_unet_down_blocks_0_attentions_0.lora_down.weight", "lora_unet_x.alpha"], "a LoRA", "LoRAs"),
        (["unet.down_blocks.0.attentions.0.to_q.lora_A.weight"], "a LoRA", "LoRAs"),
        (["transformer.single_transformer_blocks.0.attn.to_k.lora_B.weight"], "a LoRA", "LoRAs"),
        (["lora_unet_mid.hada_w1_a"], "a LoRA", "LoRAs"),
        (["control_model.input_hint_block.0.weight", PREFIX + INPUTS], "a ControlNet", "ControlNets"),
        (["controlnet_cond_embedding.conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"], "a ControlNet", "ControlNets"),
        (["image_proj.latents", "ip_adapter.1.to_k_ip.weight"], "an image-prompt adapter", "additions to models"),
        (["emb_params"], "an embedding of words", "additions to models"),
        (["first_stage_model.decoder.x"], "a VAE alone", "parts of models"),
        (["encoder.down.0.block.0.conv1.weight", "decoder.up.0.block.0.conv1.weight"], "a VAE alone", "parts of models"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "a VAE alone", "parts of models"),
        (["encoder.down_blocks.0.resnets.0.conv1.weight"], "a VAE alone", "parts of models"),
        (["text_model.encoder.layers.0.self_attn.q_proj.weight"], "a text encoder alone", "parts of models"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight", "shared.weight"], "a text encoder alone", "parts of models"),
        (["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], "one network of a pipeline folder", "parts of models"),
        (["transformer_blocks.0.attn.to_q.weight"], "one network of a pipeline folder", "parts of models"),
        (["something.else"], "not a whole model", "parts of models"),
        ([PREFIX + "layers.0.attention.qkv.weight"], "a diffusion transformer of an unknown family", "of another kind"),
        (FLUX[:1], "of an unknown family", "of another kind"),
        ([*FLUX, "distilled_guidance_layer.x"], "of an unknown family", "of another kind"),
        ([PREFIX + INPUTS, PREFIX + LABEL, PREFIX + "input_blocks.9.0.op.weight"], "a refiner", "of another kind"),
        ([PREFIX + INPUTS, PREFIX + LABEL, PREFIX + SECOND], "an image variation model", "of another kind"),
        ([INPUTS, "camera_embed.0.weight", "image_embed.latents"], "ImageDream", "of another kind"),
        ([PREFIX + INPUTS, PREFIX + LABEL, "edm_mean", "edm_std"], "EDM", "of another kind"),
        ([PREFIX + INPUTS, PREFIX + LABEL, "edm_vpred.sigma_max"], "EDM", "of another kind"),
    ],
)
def test_other_files(names: Sequence[str], said: str, group: str) -> None:
    with pytest.raises(UnsupportedModelError, match=said) as caught:
        recognise_header(header_of(names), "it")
    assert refusal(caught).group == group


@pytest.mark.parametrize(
    ("names", "name", "shape"),
    [
        ([INPUTS], INPUTS, [320, 9, 3, 3]),
        ([INPUTS, LABEL], INPUTS, [320, 8, 3, 3]),
        (FLUX, "img_in.weight", [3072, 384]),
        ([SD3, "x_embedder.proj.weight"], "x_embedder.proj.weight", [1536, 33, 2, 2]),
    ],
)
def test_files_that_need_an_image(names: Sequence[str], name: str, shape: list[int]) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"takes {shape[1]} channels instead of") as caught:
        recognise_header(header_of(names, shapes={name: shape}), "it")
    assert refusal(caught).group == "for inpainting or from images"


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (header_of(FLUX, dtype="F8_E4M3"), r"8-bit floats \(F8_E4M3\)"),
        (header_of(FLUX) | header_of(["other"], dtype="F8_E5M2"), r"8-bit floats \(F8_E5M2\)"),
        (header_of(FLUX, dtype="U8"), "quantised"),
        (header_of(FLUX, dtype="I8"), "quantised"),
        (header_of([*FLUX, "img_in.weight.absmax"]), "quantised"),
    ],
)
def test_numbers_that_are_too_coarse(header: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModelError, match=said) as caught:
        recognise_header(header, "it")
    assert refusal(caught).group == "in 8 bits or less" and "fp16 or bf16" in caught.value.remedy


def test_an_addition_in_coarse_numbers_is_called_an_addition() -> None:
    with pytest.raises(UnsupportedModelError, match="a LoRA"):
        recognise_header(header_of(["lora_unet_x.lora_down.weight"], dtype="F8_E4M3"), "it")


@pytest.mark.parametrize(("name", "group"), [("a.gguf", "in 8 bits"), ("a.GGUF", "in 8 bits"), ("a.ckpt", "pickles"), ("a.bin", "pickles")])
def test_other_formats_are_not_opened(tmp_path: Path, name: str, group: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        recognise_file(tmp_path / name)  # which is not there
    assert group in caught.value.group and ".safetensors version" in caught.value.remedy


def file_of(path: Path, header: str) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(2))
    return path


def test_a_file_on_disk(tmp_path: Path) -> None:
    for name in ("model.safetensors", "MODEL.SAFETENSORS"):
        assert recognise_file(file_of(tmp_path / name, json.dumps(header_of(FLUX)))).kind is KINDS["flux"]


@pytest.mark.parametrize(
    "header",
    [
        "[" * 50_000,
        '{"a": []}',
        '{"a": {"dtype": 3, "shape": [1], "data_offsets": [0, 2]}}',
        '{"input_blocks.0.0.weight": {"dtype": "F16", "shape": 5, "data_offsets": [0, 2]}}',
    ],
    ids=range(4),
)
def test_headers_that_make_no_sense(tmp_path: Path, header: str) -> None:
    with pytest.raises(PriorError, match="header cannot be read") as caught:
        recognise_file(file_of(tmp_path / "model.safetensors", header))
    assert not isinstance(caught.value, UnsupportedModelError)
