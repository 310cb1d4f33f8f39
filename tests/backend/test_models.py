"""Image models: which are worth having, which are on this computer already, and what the command line says of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from backend import cli, environment, machine, model_files, models
from backend.commands import generate
from backend.console import Console
from backend.errors import InputError, OutputError
from backend.guidance.kinds import KINDS
from backend.job import JobFolder
from backend.machine import GIB, Gpu
from backend.model_files import Scan
from backend.models import CATALOGUE, recommend
from backend.request import make_request

links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


@pytest.fixture(autouse=True)
def computer(monkeypatch, tmp_path):
    """A computer without models and without a GPU."""
    for name in ("HF_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "gpus", list)


def weights(path: Path, names: list[str], *, dtype: str = "F16", shapes: dict[str, list[int]] | None = None) -> Path:
    """A .safetensors file with such a header, and two bytes for each tensor."""
    header = {
        name: {"dtype": dtype, "shape": (shapes or {}).get(name, [1]), "data_offsets": [2 * i, 2 * i + 2]} for i, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(2 * len(names)))
    return path


UNET = "model.diffusion_model."
INPUTS = UNET + "input_blocks.0.0.weight"
VAE, CLIP = "first_stage_model.decoder.conv_in.weight", "cond_stage_model.transformer.text_model.embeddings.position_ids"
WHOLE = [INPUTS, VAE, CLIP]
SHAPES = {INPUTS: [320, 4, 3, 3], "img_in.weight": [3072, 64]}
FLUX = ["double_blocks.0.img_attn.qkv.weight", "img_in.weight", "vector_in.in_layer.weight"]
PIPELINE = {
    "_class_name": "StableDiffusionPipeline",
    "unet": "UNet2DConditionModel",
    "text_encoder": "CLIPTextModel",
    "vae": "AutoencoderKL",
}
"""Components of a pipeline, as its model_index.json has them."""
CAMERAS = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
"""What makes it a multi-view model, in the configuration of its UNet."""


def checkpoint(path: Path) -> Path:
    return weights(path, WHOLE, shapes=SHAPES)


def pipeline(folder: Path, *, config: dict[str, Any] | None = None, **changes: str) -> Path:
    weights(folder / "unet" / "diffusion_pytorch_model.safetensors", ["conv_in.weight"])
    entries = {name: value if name.startswith("_") else ["diffusers", value] for name, value in (PIPELINE | changes).items()}
    (folder / "model_index.json").write_text(json.dumps(entries))
    if config is not None:
        (folder / "unet" / "config.json").write_text(json.dumps(config))
    return folder


def cached(hub: Path, name: str) -> Path:
    """A repository in the layout of the hub's cache, its files links to its blobs."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = pipeline(repository / "snapshots" / "abc", config=CAMERAS)
    for index, file in enumerate([path for path in snapshot.rglob("*") if path.is_file()]):
        blob = repository / "blobs" / str(index)
        blob.parent.mkdir(exist_ok=True)
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    return repository


def found(*folders: Path, **limits) -> dict[str, model_files.ModelFile]:
    return {model.name: model for model in model_files.scan(within=folders, **limits).models}


class TestCatalogue:
    def test_every_row_is_whole(self):
        assert len({model.hub_id for model in CATALOGUE}) == len({model.title for model in CATALOGUE}) == len(CATALOGUE)
        for model in CATALOGUE:
            assert model.hub_id.count("/") == 1 and model.family in KINDS
            assert model.licence and model.good_for and 1 < model.download < 100 and 1 < model.memory < 100
            assert "about" in model.cost() and ("to be accepted" in model.terms()) == model.is_gated
            assert models.by_hub_id(f" {model.hub_id} ") is model
        assert models.by_hub_id("owner/model") is None

    def test_what_is_recommended_needs_no_account(self):
        assert not any(model.is_gated for model in CATALOGUE if model.is_preferred)

    @pytest.mark.parametrize(
        ("gpus", "family"),
        [
            ([], None),
            ([Gpu("small", 2 * GIB)], None),
            ([Gpu("6 GB", 6 * GIB - 200 * 2**20)], "sd"),
            ([Gpu("12 GB", 12 * GIB)], "sd"),
            ([Gpu("24 GB", 24 * GIB - 2**28)], "sdxl"),
            ([Gpu("small", 2 * GIB), Gpu("large", 80 * GIB)], "sdxl"),
            ([Gpu("does not say")], "sd"),
        ],
    )
    def test_the_largest_that_fits(self, gpus, family):
        best = recommend(gpus)
        assert (best.family if best else None) == family


class TestGpus:
    @pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="a shell script stands in for the driver's tool")
    @pytest.mark.parametrize(
        ("script", "gpus"),
        [
            ("echo 'NVIDIA H100 80GB HBM3, 81559'; echo 'NVIDIA A, B, 1000'", [("NVIDIA H100 80GB HBM3", 81559), ("NVIDIA A, B", 1000)]),
            ("echo 'NVIDIA GB10, [N/A]'", [("NVIDIA GB10", None)]),
            ("case $1 in -L) echo 'GPU 0: old (UUID: x)';; *) exit 2;; esac", [("GPU 0: old (UUID: x)", None)]),
            ("echo 'No devices were found'", []),
        ],
    )
    def test_nvidia(self, monkeypatch, tmp_path, script, gpus):
        monkeypatch.undo()
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        expected = [Gpu(name, memory * 2**20 if memory else None) for name, memory in gpus]
        assert machine.gpus() == expected

    def test_a_macs_gpu_has_a_share_of_its_memory(self, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr(sys, "platform", "darwin")
        monkeypatch.setattr(machine, "_total_memory", lambda: 24 * GIB)
        monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
        assert [gpu.memory for gpu in machine.gpus()] == [16 * GIB]
        monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
        assert machine.gpus() == []


class TestFolders:
    def test_named_once_and_kept(self, tmp_path):
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        assert model_files.folders() == ()
        for name in ("one", "two", "one"):
            model_files.add_folder(tmp_path / name)
        assert model_files.folders() == (tmp_path / "one", tmp_path / "two")
        model_files.remove_folder(tmp_path / "one")
        assert model_files.folders() == (tmp_path / "two",)
        assert [path.name for path in environment.data_folder().iterdir()] == ["model-folders.json"]

    def test_relative_ones_become_absolute(self, tmp_path, monkeypatch):
        (tmp_path / "one").mkdir()
        monkeypatch.chdir(tmp_path)
        assert model_files.add_folder("one") == tmp_path / "one"

    def test_refused(self, tmp_path):
        (tmp_path / "file").touch()
        for path in (tmp_path / "file", tmp_path / "nowhere"):
            with pytest.raises(InputError, match="no folder"):
                model_files.add_folder(path)
        with pytest.raises(OutputError):
            model_files.add_folder(tmp_path, {"XDG_DATA_HOME": str(tmp_path / "file"), "LOCALAPPDATA": str(tmp_path / "file")})
        with pytest.raises(InputError) as caught:
            model_files.remove_folder(tmp_path)
        assert "no folder" in caught.value.remedy

    @pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"folders": 3}', b'{"folders": [1, "", null]}'])
    def test_a_damaged_file_is_one_without_folders(self, tmp_path, content):
        file = environment.data_folder() / "model-folders.json"
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        assert model_files.folders() == ()
        model_files.add_folder(tmp_path)
        assert model_files.folders() == (tmp_path,)


class TestFiles:
    @pytest.mark.parametrize(
        ("names", "family", "is_whole"),
        [
            (WHOLE, "sd", True),
            ([INPUTS, VAE], "sd", False),
            (FLUX, "flux", False),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_models(self, tmp_path, names, family, is_whole):
        path = weights(tmp_path / "model.safetensors", names, shapes=SHAPES)
        (model,) = found(tmp_path).values()
        assert (model.name, model.title, model.family, model.kind) == (str(path), "model", family, "file")
        assert model.is_whole == is_whole == ("come from the hub" not in model.describe())
        assert model.size == path.stat().st_size

    def test_parts_and_additions_are_left_out(self, tmp_path):
        weights(tmp_path / "a.safetensors", ["lora_unet_down_blocks_0.lora_down.weight"])
        weights(tmp_path / "b.safetensors", ["control_model.input_hint_block.0.weight"])
        weights(tmp_path / "c.safetensors", ["text_model.embeddings.position_ids"])
        weights(tmp_path / "d.safetensors", FLUX[:1])  # of a relative of FLUX
        result = model_files.scan(within=[tmp_path])
        assert result == Scan((), {"LoRAs": 1, "ControlNets": 1, "parts of models": 1, "of another kind": 1})

    def test_inpainting_and_eight_bits_are_left_out(self, tmp_path):
        weights(tmp_path / "a.safetensors", WHOLE, shapes={INPUTS: [320, 9, 3, 3]})
        weights(tmp_path / "b.safetensors", WHOLE, shapes=SHAPES, dtype="F8_E4M3")
        (tmp_path / "c.gguf").touch()
        weights(tmp_path / "d.safetensors", FLUX, shapes={"img_in.weight": [3072, 384]})
        weights(tmp_path / "e.safetensors", [*FLUX, "img_in.weight.absmax"], shapes=SHAPES)
        assert model_files.scan(within=[tmp_path]).left_out == {"for inpainting or from images": 2, "in 8 bits or less": 3}

    def test_pickles_are_not_opened(self, tmp_path):
        (tmp_path / "old.ckpt").touch()
        (tmp_path / "old.ckpt").chmod(0)
        (tmp_path / "notes.txt").touch()
        (what,) = model_files.scan(within=[tmp_path]).left_out
        assert "may run code" in what

    @pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"\5\0\0\0\0\0\0\0[[[[["])
    def test_damaged(self, tmp_path, content):
        (tmp_path / "model.safetensors").write_bytes(content)
        result = model_files.scan(within=[tmp_path])
        assert result.models == () and result.left_out

    @pytest.mark.parametrize(
        "text",
        [
            "[" * 50_000,
            '{"a": {"dtype": 3, "shape": [1], "data_offsets": [0, 0]}}',
            '{"a": {"dtype": "F16", "shape": 5, "data_offsets": [0, "x"]}}',
            '{"input_blocks.0.0.weight": {"dtype": "F16", "shape": 5, "data_offsets": [0, 0]}}',
            '{"a": []}',
        ],
        ids=range(5),
    )
    def test_headers_that_make_no_sense(self, tmp_path, text):
        (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text.encode())
        result = model_files.scan(within=[tmp_path])
        assert result.models == () and sum(result.left_out.values()) == 1

    def test_configurations_that_make_no_sense(self, tmp_path):
        for number, text in enumerate(["[" * 50_000, "[1]", "3", "{"]):
            (pipeline(tmp_path / str(number)) / "unet" / "config.json").write_text(text)
        assert model_files.scan(within=[tmp_path]).left_out == {"damaged": 4}

    @pytest.mark.parametrize(
        "text", ["[" * 50_000, "[]", '{"unet": ["x", {}]}', '{"unet": 3, "transformer": ["x", []]}', "3"], ids=range(5)
    )
    def test_indices_that_make_no_sense(self, tmp_path, text):
        (tmp_path / "model_index.json").write_text(text)
        result = model_files.scan(within=[tmp_path])
        assert result.models == () and sum(result.left_out.values()) == 1


class TestPipelines:
    def test_folders(self, tmp_path):
        folder = pipeline(tmp_path / "mine")
        (model,) = found(tmp_path).values()
        assert (model.name, model.title, model.family, model.kind) == (str(folder), "mine", "sd", "folder")
        assert found(folder) == {model.name: model}  # the folder itself may be named

    def test_by_the_configuration_of_the_unet(self, tmp_path):
        pipeline(tmp_path / "mine", config=CAMERAS)
        (model,) = found(tmp_path).values()
        assert model.family == "mvdream"

    @links
    @pytest.mark.parametrize("secret", [CAMERAS, {"padding": "x" * 2**20} | CAMERAS], ids=["outside", "large"])
    def test_a_configuration_elsewhere_or_too_large_is_not_read(self, tmp_path, secret):
        config = pipeline(tmp_path / "root" / "mine", config=secret) / "unet" / "config.json"
        if secret == CAMERAS:
            config.rename(tmp_path / "secret.json")
            config.symlink_to(tmp_path / "secret.json")
        (model,) = found(tmp_path / "root").values()
        assert model.family == "sd"

    def test_others_are_left_out(self, tmp_path):
        pipeline(tmp_path / "video", _class_name="VideoToVideoPipeline")
        (pipeline(tmp_path / "half") / "unet" / "diffusion_pytorch_model.safetensors").unlink()
        old = pipeline(tmp_path / "old") / "unet" / "diffusion_pytorch_model.safetensors"
        old.rename(old.with_suffix(".bin"))
        (pipeline(tmp_path / "partly") / "text_encoder").mkdir()  # converted by hand, and its text encoder forgotten
        (tmp_path / "partly" / "text_encoder" / "pytorch_model.bin").touch()
        broken = pipeline(tmp_path / "broken")
        (broken / "model_index.json").write_text("{")
        assert model_files.scan(within=[tmp_path]).left_out == {
            "of another kind": 1,
            "incomplete": 1,
            "in a format that may run code (pickles)": 2,
            "damaged": 1,
        }

    @links
    def test_the_hubs_cache(self, tmp_path):
        hub = model_files.hub_cache()
        assert hub == tmp_path / "cache" / "huggingface" / "hub"
        cached(hub, "owner/a--model")
        (hub / "models--owner--text-encoder" / "snapshots" / "abc").mkdir(parents=True)
        (model,) = model_files.scan().models
        assert (model.name, model.kind, model.family) == ("owner/a--model", "hub", "mvdream") and model.size > 0

    @links
    @pytest.mark.parametrize("has", [("fp16", "abc"), ("main", "gone"), ("main", "other")])
    def test_a_snapshot_that_its_hub_id_does_not_mean_is_a_folder(self, tmp_path, has):
        """Fetched under a branch's or a commit's name, or before somebody looked up what is new: the hub's libraries mean `main`."""
        repository = cached(model_files.hub_cache(), "owner/model")
        other = pipeline(repository / "snapshots" / "other")
        (other / "unet" / "diffusion_pytorch_model.safetensors").unlink()  # of what is new nothing but small files
        (repository / "refs" / "main").unlink()
        (repository / "refs" / has[0]).write_text(has[1])
        (model,) = model_files.scan().models
        assert (model.name, model.title, model.kind) == (str(repository / "snapshots" / "abc"), "owner/model", "folder")

    @links
    def test_of_two_snapshots_the_hub_id_means_one(self):
        repository = cached(model_files.hub_cache(), "owner/model")
        pipeline(repository / "snapshots" / "newer", config={})
        (model,) = model_files.scan().models
        assert (model.name, model.family) == ("owner/model", "mvdream"), "what will be loaded is told of, not what came last"

    @links
    def test_a_cache_that_the_hubs_libraries_do_not_know_is_a_folder(self, tmp_path):
        repository = cached(tmp_path / "old-cache", "owner/model")
        (model,) = found(tmp_path / "old-cache").values()
        assert (model.name, model.title, model.kind) == (str(repository / "snapshots" / "abc"), "owner/model", "folder")

    def test_variables_of_the_hub(self, monkeypatch):
        assert model_files.hub_cache({"HF_HUB_CACHE": "/models", "HF_HOME": "/home"}) == Path("/models")
        assert model_files.hub_cache({"HF_HOME": "/home"}) == Path("/home/hub")
        older = {"HUGGINGFACE_HUB_CACHE": "/older", "HF_HOME": "/home"}
        assert model_files.hub_cache(older) == Path("/older")
        assert model_files.hub_cache(older | {"HF_HUB_CACHE": "/models"}) == Path("/models")
        monkeypatch.setenv("DISK", "/mnt/disk")
        assert model_files.hub_cache({"HF_HOME": "$DISK/hf"}) == Path("/mnt/disk/hf/hub")


class TestOtherPrograms:
    def test_comfyui(self, tmp_path):
        root = tmp_path / "ComfyUI"
        mine = checkpoint(root / "models" / "checkpoints" / "sd15" / "mine.safetensors")
        checkpoint(root / "custom" / "elsewhere.safetensors")
        weights(root / "models" / "loras" / "style.safetensors", ["lora_x"])
        assert set(found(root)) == {str(mine)}
        assert model_files.scan(within=[root]).left_out == {}
        assert set(found(root / "models")) == {str(mine)}

    def test_stable_diffusion_webui(self, tmp_path):
        mine = checkpoint(tmp_path / "models" / "Stable-diffusion" / "mine.safetensors")
        weights(tmp_path / "models" / "VAE" / "vae.safetensors", ["decoder.conv_in.weight"])
        assert set(found(tmp_path)) == {str(mine)}

    def test_invokeai(self, tmp_path):
        old = pipeline(tmp_path / "models" / "sd-1" / "main" / "dreams")
        new = checkpoint(tmp_path / "models" / "0f3c-key" / "mine.safetensors")
        assert set(found(tmp_path)) == {str(old), str(new)}


class TestSearch:
    @links
    def test_links_that_lead_out_are_not_followed(self, tmp_path):
        outside = checkpoint(tmp_path / "outside" / "secret.safetensors")
        root = tmp_path / "root"
        inside = checkpoint(root / "models" / "mine.safetensors")
        (root / "linked.safetensors").symlink_to(outside)
        (root / "folder").symlink_to(outside.parent, target_is_directory=True)
        (root / "round").symlink_to(root, target_is_directory=True)
        (root / "checkpoints").mkdir()
        (root / "checkpoints" / "again.safetensors").symlink_to(inside)
        (root / "broken.safetensors").symlink_to(root / "nowhere")
        result = model_files.scan(within=[root])
        assert {model.title for model in result.models} == {"mine", "again"}
        assert result.left_out["behind links"] == 3

    @links
    def test_a_folder_that_is_itself_a_link_was_named_by_the_user(self, tmp_path):
        checkpoint(tmp_path / "real" / "mine.safetensors")
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        assert set(found(tmp_path / "link")) == {str(tmp_path / "link" / "mine.safetensors")}

    def test_overlapping_folders_count_once(self, tmp_path):
        checkpoint(tmp_path / "a" / "b" / "mine.safetensors")
        assert len(model_files.scan(within=[tmp_path / "a", tmp_path, tmp_path / "a" / "b"]).models) == 1

    def test_it_ends(self, tmp_path):
        for number in range(30):
            checkpoint(tmp_path / f"{number // 10}" / f"{number}.safetensors")
        checkpoint(tmp_path.joinpath(*"abcdefghij") / "deep.safetensors")
        for limits in ({"entries": 5}, {"headers": 7}, {"seconds": 0}):
            result = model_files.scan(within=[tmp_path], **limits)
            assert len(result.models) < 30 and not result.is_complete
        whole = model_files.scan(within=[tmp_path])
        assert len(whole.models) == 30 and not whole.is_complete  # one lies too deep

    def test_it_is_quick(self, tmp_path):
        for number in range(200):
            (tmp_path / f"{number}").mkdir()
            for other in range(20):
                (tmp_path / f"{number}" / f"{other}.png").touch()
        started = time.monotonic()
        assert model_files.scan(within=[tmp_path]).is_complete
        assert time.monotonic() - started < 5

    def test_what_is_not_there(self, tmp_path):
        assert model_files.scan(within=[tmp_path / "nowhere"]).models == ()
        assert model_files.scan(within=[tmp_path / ("x" * 300)]).models == (), "nor where nobody may look"
        assert model_files.scan() == model_files.Scan()


class TestCommand:
    def test_nothing_here(self, capsys):
        assert cli.main(["models"]) == 0
        text = capsys.readouterr().out
        assert "none found" in text and "--add-folder" in text
        assert all(f"--prior {model.hub_id} --set prior.allow_download=true" in text for model in CATALOGUE)
        assert "the built-in model is the one to use" in text and "\n*" not in text
        built_in = text.partition("On this computer:")[0].splitlines()
        assert [line.strip() for line in built_in if line.startswith("  builtin")] == ["builtin:learned", "builtin:exact", "builtin"]

    @links
    def test_what_is_found_can_be_pasted(self, tmp_path, capsys):
        path = checkpoint(tmp_path / "my models" / "mine.safetensors")
        (path.parent / "old.ckpt").touch()
        cached(model_files.hub_cache(), CATALOGUE[0].hub_id)
        assert cli.main(["models", "--add-folder", str(path.parent)]) == 0
        text = capsys.readouterr().out
        assert f"--prior '{path}'" in text and "left out: 1 in a format that may run code" in text
        assert f"--prior {CATALOGUE[0].hub_id}  (on this computer already)" in text
        assert cli.main(["models", "--remove-folder", str(path.parent)]) == 0
        assert str(path) not in capsys.readouterr().out

    def test_the_one_for_this_computer(self, monkeypatch, capsys):
        monkeypatch.setattr(machine, "gpus", lambda: [Gpu("Big One", 24 * GIB)])
        assert cli.main(["models"]) == 0
        text = capsys.readouterr().out
        assert "\n* Stable Diffusion XL\n" in text and "Big One (24 GB)" in text
        monkeypatch.setattr(machine, "gpus", lambda: [Gpu("Small One", GIB)])
        assert cli.main(["models"]) == 0
        assert "too little memory" in capsys.readouterr().out

    def test_for_programs(self, tmp_path, capsys):
        checkpoint(tmp_path / "mine.safetensors")
        assert cli.main(["models", "--json", "--add-folder", str(tmp_path)]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["found"][0]["title"] == "mine" and said["complete"] and said["gpus"] == []
        assert said["builtin"] == ["builtin:learned", "builtin:exact", "builtin"]
        assert not any(model["for_this_computer"] for model in said["recommended"])

    def test_no_such_folder(self, tmp_path, capsys):
        assert cli.main(["models", "--add-folder", str(tmp_path / "nowhere")]) == InputError.exit_code
        assert "no folder" in capsys.readouterr().err

    def test_needs_the_standard_library_alone(self):
        answer = subprocess.run(
            [sys.executable, "-S", "-m", "backend", "models"], cwd=environment.PACKAGE_ROOT, capture_output=True, text=True, timeout=60
        )
        assert answer.returncode == 0, answer.stderr


class TestGenerate:
    def said(self, tmp_path, capsys, **overrides) -> str:
        spec, config = make_request("a red cat", overrides=overrides.get("values"))
        generate._recommend_model(JobFolder.create(tmp_path / "jobs", spec, config), Console())
        return capsys.readouterr().err

    def test_a_gpu_could_do_more(self, tmp_path, monkeypatch, capsys):
        assert self.said(tmp_path, capsys) == ""
        monkeypatch.setattr(machine, "gpus", lambda: [Gpu("Big One", 24 * GIB)])
        line = self.said(tmp_path, capsys)
        assert "Stable Diffusion XL" in line and "backend models" in line and line.count("\n") == 1

    @pytest.mark.parametrize("name", ["builtin", "builtin:exact", "owner/model"])
    def test_who_chose_a_model_is_not_told(self, tmp_path, monkeypatch, capsys, name):
        monkeypatch.setattr(machine, "gpus", lambda: [Gpu("Big One", 24 * GIB)])
        assert self.said(tmp_path, capsys, values={"prior.name": name}) == ""
