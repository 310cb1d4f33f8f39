"""MVDream: four views at a time, told of their cameras, in three layouts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend import settings
from backend.cameras import orbit_camera
from backend.errors import ConfigError, PriorError
from backend.gaussians.initialize import initialize
from backend.guidance.families.multiview import camera_numbers
from backend.guidance.prior import Conditioning
from backend.job_lines import trace_visits
from backend.method.optimizer import Distillation
from backend.pipeline import settle

from .tiny_models.configurations import ORIGINAL_MVDREAM
from .tiny_models.folders import CPU, load, write_model
from .tiny_models.original_unets import unet_to_original
from .tiny_models.single_file import write_single_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("mvdream") / "model", "mvdream")


@pytest.fixture(scope="module")
def prior(folder: Path) -> Any:
    return load(folder)


def viewmats(azimuths: Sequence[float], elevation: float = 15, distance: float = 3) -> Tensor:
    return torch.from_numpy(np.stack([orbit_camera(azimuth, elevation, distance, 40, 64).viewmat for azimuth in azimuths])).float()


def conditioned(prior: Any, azimuths: Sequence[float]) -> Conditioning:
    return prior.place_cameras(prior.encode_prompts(["a red cat"] * len(azimuths)), viewmats(azimuths))


def test_cameras_as_the_published_code_makes_them() -> None:
    """At azimuth 0 and elevation 15 its camera is, in a world with Y up, at (0, sin e, cos e) with its axes x right, y up, z backwards;
    its turn into Blender's world takes (x, y, z) to (x, -z, y): a camera in front, at -Y, as ours."""
    e = np.radians(15)
    right, up, back = [1, 0, 0], [0, np.sin(e), np.cos(e)], [0, -np.cos(e), np.sin(e)]
    expected = np.eye(4)
    expected[:3, :3] = np.array([right, up, back]).T
    expected[:3, 3] = [0, -np.cos(e), np.sin(e)]
    np.testing.assert_allclose(camera_numbers(viewmats([0], distance=2.7))[0], expected.flatten(), atol=1e-6)


def test_cameras_of_a_quarter_turn() -> None:
    """From azimuth 90, at +X: right is +Y, backwards is +X, and every place is on the unit sphere."""
    camera = camera_numbers(viewmats([90], elevation=0, distance=5)).view(4, 4)
    np.testing.assert_allclose(camera[:3], [[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0]], atol=1e-6)


def test_embedding_of_the_camera_is_added_to_that_of_the_timestep(prior: Any) -> None:
    embedding = prior._denoiser.class_embedding
    cameras = camera_numbers(viewmats([0, 90, 180, 270]))
    first, second = embedding.linear_1, embedding.linear_2
    assert first.in_features == 16
    torch.testing.assert_close(embedding(cameras), second(torch.nn.functional.silu(first(cameras))))
    seen = []
    handle = prior._denoiser.down_blocks[0].resnets[0].register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    conditioning = conditioned(prior, [0, 90, 180, 270])
    prior.predict_noise(torch.zeros(4, 4, 8, 8), torch.full((4,), 100), conditioning)
    handle.remove()
    time = prior._denoiser.time_embedding(prior._denoiser.time_proj(torch.full((4,), 100)))
    torch.testing.assert_close(seen[0], time + embedding(cameras))


def test_views_of_a_group_see_each_other_and_no_other_group(prior: Any) -> None:
    z_t, t = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.full((8,), 500)
    conditioning = conditioned(prior, [0, 90, 180, 270] * 2)
    before = prior.predict_noise(z_t, t, conditioning)
    changed = z_t.clone()
    changed[1] += 1
    moved = (prior.predict_noise(changed, t, conditioning) - before).flatten(1).norm(dim=1)
    assert (moved[:4] > 1e-5).all()
    assert (moved[4:] < 1e-5).all()
    torch.testing.assert_close(prior.predict_noise(z_t[:4], t[:4], conditioning.select(range(4))), before[:4], atol=1e-4, rtol=1e-4)


def test_self_attention_is_over_the_tokens_of_all_views(prior: Any) -> None:
    attention = next(module for name, module in prior._denoiser.named_modules() if name.endswith("attn1"))
    states = torch.randn(4, 3, attention.to_q.in_features)
    joined = states.reshape(1, 12, -1)
    q, k, v = (getattr(attention, f"to_{letter}")(joined).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for letter in "qkv")
    weights = (q @ k.transpose(-1, -2) * attention.scale).softmax(-1)
    expected = attention.to_out[0]((weights @ v).transpose(1, 2).flatten(2)).reshape(4, 3, -1)
    torch.testing.assert_close(attention(states), expected, atol=1e-5, rtol=1e-4)


def test_incomplete_groups_and_missing_cameras_are_refused(prior: Any) -> None:
    with pytest.raises(PriorError, match="3 views"):
        prior.predict_noise(torch.zeros(3, 4, 8, 8), torch.zeros(3).long(), conditioned(prior, [0, 90, 180]))
    with pytest.raises(PriorError, match="without their cameras"):
        prior.predict_noise(torch.zeros(4, 4, 8, 8), torch.zeros(4).long(), prior.encode_prompts(["a"] * 4))


def original_folder(folder: Path, target: Path) -> Path:
    """The folder as its community keeps it: a class of its own and the original names. What it is in diffusers' names stays the same."""
    shutil.copytree(folder, target)
    (weights,) = (target / "unet").glob("*.safetensors")
    config = json.loads((target / "unet" / "config.json").read_text())
    save_file({k: v.contiguous() for k, v in unet_to_original(load_file(weights), config).items()}, weights)
    (target / "unet" / "config.json").write_text(json.dumps(ORIGINAL_MVDREAM))
    index = json.loads((target / "model_index.json").read_text())
    (target / "model_index.json").write_text(json.dumps(index | {"unet": ["mv_unet", "MultiViewUNetModel"]}))
    (target / "unet" / "mv_unet.py").write_text("raise SystemExit('code from a model is not run')")
    return target


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a folder in diffusers' names, the same model in the original ones), with the widths that the latter can express."""
    root = tmp_path_factory.mktemp("original")
    widths = {"block_out_channels": [32, 64, 128, 128], "norm_num_groups": 32}
    ours = write_model(root / "ours", "mvdream", **widths)
    return ours, original_folder(ours, root / "theirs")


def same(one: Any, other: Any) -> None:
    z_t, t = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 300, 600, 900])
    azimuths = [20, 110, 200, 290]
    first, second = (prior.predict_noise(z_t, t, conditioned(prior, azimuths)) for prior in (one, other))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_a_folder_in_the_original_names(original: tuple[Path, Path]) -> None:
    ours, theirs = original
    prior = load(theirs)
    assert prior.views_per_prediction == 4
    same(load(ours), prior)


def test_a_single_file(original: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = original
    monkeypatch.setattr("backend.guidance.single_file.hub_folder", lambda repo, **options: theirs)
    prior = load(write_single_file(ours, "mvdream", tmp_path / "sd-v2.1-base-4view.safetensors"))
    assert prior.views_per_prediction == 4
    same(load(ours), prior)


def test_an_image_dream_model_is_refused(original: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(original[1], tmp_path / "model"))
    (folder / "unet" / "config.json").write_text(json.dumps(ORIGINAL_MVDREAM | {"ip_dim": 16}))
    with pytest.raises(PriorError, match="ImageDream"):
        load(folder)


# In a run


def distillation(prior: Any, *sets: str, settled: bool = True) -> Distillation:
    config = settings.resolve("draft", sets=["gaussians.count=60", "optimizer.iterations=20", "optimizer.views=4", *sets])
    config = settle(config, prior) if settled else config
    return Distillation(config, prior, initialize(config.gaussians, torch.Generator().manual_seed(0), CPU), "a red cat")


def test_a_run_looks_from_four_sides_in_plain_words(prior: Any) -> None:
    run = distillation(prior)
    assert run.config.grid.cameras == "orbit"
    assert not run.config.guidance.view_prompts
    assert run.config.grid.distance_edges == (2.75, 3.1)


def test_eight_views_are_two_rounds_of_four(prior: Any) -> None:
    run = distillation(prior, "optimizer.views=8")
    azimuths = run.sample_views([3, 4]).azimuths.reshape(2, 4)
    np.testing.assert_allclose(np.diff(azimuths, axis=1), 90)
    assert azimuths[0, 0] != azimuths[1, 0]
    first, second = trace_visits(run.step())
    assert first["region"] != second["region"], "each round has a region, a timestep and a gradient of its own"


def test_views_that_cannot_be_divided_are_refused_before_work_starts(prior: Any) -> None:
    with pytest.raises(ConfigError, match="4 views together") as caught:
        distillation(prior, "optimizer.views=6")
    assert "optimizer.views" in caught.value.remedy


def test_a_method_that_draws_views_anywhere_gets_them_from_four_sides_too(prior: Any) -> None:
    run = distillation(prior, "grid.cameras=uniform", "gradient_fusion.enabled=false")
    assert run.config.grid.cameras == "orbit"


def test_cameras_that_do_not_stand_evenly_are_refused(prior: Any) -> None:
    with pytest.raises(ConfigError, match="region"):
        distillation(prior, "grid.cameras=region", settled=False)
