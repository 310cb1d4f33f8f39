"""What of a hub repository is needed, and what is said where it cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.errors import PriorError
from backend.guidance.hub import files_to_download, hub_folder
from backend.guidance.small_vae import _find

from .tiny_models.configurations import KINDS
from .tiny_models.folders import load, write_model

LISTINGS = {
    "sdxl": (
        "sd_xl_base_1.0.safetensors", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/model.onnx", "vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors",
        "vae_1_0/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors",
        "text_encoder_2/model.safetensors", "text_encoder_2/model.fp16.safetensors", "tokenizer/merges.txt", "tokenizer_2/vocab.json",
    ),
    "sd3": (
        "sd3_medium.safetensors", "transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoder_2/model.safetensors",
        "text_encoder_3/model-00001-of-00002.safetensors", "text_encoder_3/model-00002-of-00002.safetensors",
        "text_encoder_3/model.safetensors.index.json", "text_encoder_3/model.fp16-00001-of-00002.safetensors",
        "text_encoder_3/model.fp16-00002-of-00002.safetensors", "text_encoder_3/model.safetensors.index.fp16.json",
        "tokenizer_3/tokenizer.json", "tokenizer_3/spiece.model",
    ),
    "flux": (
        "flux1-dev.safetensors", "ae.safetensors", "transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json", "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors", "text_encoder_2/model-00001-of-00002.safetensors", "text_encoder_2/model.safetensors.index.json",
        "tokenizer_2/spiece.model",
    ),
    "deepfloyd": (
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin",
        "text_encoder/model-00001-of-00002.safetensors", "text_encoder/model.safetensors.index.json",
        "text_encoder/model.fp16-00001-of-00002.safetensors", "text_encoder/model.safetensors.index.fp16.json",
        "text_encoder/pytorch_model.bin.index.json", "tokenizer/spiece.model", "safety_checker/model.safetensors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LISTINGS)
@pytest.mark.parametrize("half", [True, False])
def test_every_component_comes_once(kind: str, half: bool) -> None:
    components = [name for name in ("unet", "transformer", "vae") if KINDS[kind].get(name)]
    components += [f"text_encoder{suffix}" for suffix in ("", "_2", "_3")[: len(KINDS[kind]["texts"])]]
    small = ["model_index.json", "scheduler/scheduler_config.json", *(f"{name}/config.json" for name in components)]
    wanted = files_to_download([*LISTINGS[kind], *small], half=half)
    assert set(small) < set(wanted)
    assert {file for file in LISTINGS[kind] if file.startswith("tokenizer")} < set(wanted)
    for name in components:
        weights = [file for file in wanted if file.startswith(f"{name}/") and "config" not in file]
        assert weights, name
        precisions = {"fp16" in file for file in weights}
        has_half = any("fp16" in file for file in LISTINGS[kind] if file.startswith(f"{name}/"))
        assert precisions == {half and has_half}, weights
    assert not [file for file in wanted if file.startswith(("safety", "vae_1_0")) or ("/" not in file and file != "model_index.json")]
    assert not [file for file in wanted if file.endswith((".bin", ".onnx", ".bin.index.json"))]


def test_only_the_weights_that_are_needed() -> None:
    wanted = files_to_download(["vae/config.json", *LISTINGS["sdxl"]], half=False, weights=["vae"])
    assert [file for file in wanted if file.endswith(".safetensors")] == ["vae/diffusion_pytorch_model.safetensors"]
    assert {"vae/config.json", "tokenizer/merges.txt", "tokenizer_2/vocab.json"} < set(wanted)


def test_full_weights_that_are_here_will_do() -> None:
    sd3 = LISTINGS["sd3"]
    full = [file for file in sd3 if file.startswith("text_encoder_3/") and "fp16" not in file]
    half = [file for file in sd3 if file.startswith("text_encoder_3/") and "fp16" in file]
    for wish, here, meant in ((True, full, full), (False, half, full), (True, full[1:], half), (True, [*full, *half], full)):
        wanted = files_to_download(sd3, half=wish, weights=["text_encoder_3"], here=here)
        assert {file for file in wanted if file.startswith("text_encoder_3/")} == set(meant)


def test_a_licence_that_was_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    def files(self: Any, repo: str) -> list[str]:
        raise GatedRepoError.__new__(GatedRepoError, "Access to the model is restricted")  # its constructor wants a real response

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", files)
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    with pytest.raises(PriorError, match="accepted its licence") as caught:
        hub_folder("black-forest-labs/FLUX.1-dev", half=True, allow_download=True)
    assert "hf auth login" in caught.value.remedy


class TestWithoutAConnection:
    """With consent to fetch what is missing."""

    @pytest.fixture(autouse=True)
    def hub(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """A hub that cannot be reached; `here` is what is on this computer, and `breaks` whether it is lost while files are fetched."""
        import httpx2
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        state: dict[str, Any] = {"here": None, "breaks": False}

        def files(self: Any, repo: str) -> list[str]:
            if state["breaks"]:
                return ["model_index.json"]
            raise httpx2.ConnectError("[Errno 111] Connection refused")

        def snapshot(repo: str, *, local_files_only: bool = False, **options: Any) -> str:
            if not local_files_only:
                raise httpx2.ReadTimeout("The read operation timed out")
            if state["here"] is None:
                raise LocalEntryNotFoundError("not here")
            return state["here"]

        monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", files)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
        return state

    def test_a_model_that_is_here_will_do(self, hub: dict[str, Any], tmp_path: Path) -> None:
        hub["here"] = str(tmp_path)
        assert hub_folder("owner/name", half=True, allow_download=True) == tmp_path

    @pytest.mark.parametrize("breaks", [False, True])
    def test_another_one_cannot_be_reached(self, hub: dict[str, Any], breaks: bool) -> None:
        hub["breaks"] = breaks
        with pytest.raises(PriorError, match="hub cannot be reached for 'owner/name'") as caught:
            hub_folder("owner/name", half=True, allow_download=True)
        assert "connection" in caught.value.remedy

    def test_of_one_that_is_here_in_part_the_rest_needs_it(self, hub: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "model_index.json").write_text(
            '{"unet": ["diffusers", "UNet2DConditionModel"], "text_encoder": ["x", "CLIPTextModel"]}'
        )
        hub["here"] = str(tmp_path)
        with pytest.raises(PriorError, match="not everything is on this computer") as caught:
            load("owner/name", allow_download=True)
        assert "connection" in caught.value.remedy


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of owner/name in the hub's cache, as the hub's library leaves it: what is needed, and a list of all that there is."""
    from huggingface_hub import constants
    from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache

    commit = "0" * 40
    repository = tmp_path / "models--owner--name"
    snapshot = write_model(repository / "snapshots" / commit, "sd15")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    names = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
    entry = TreeCacheEntry(size=1, blob_id="0", lfs_sha256=None, lfs_size=None, xet_hash=None)
    write_tree_cache(str(repository), commit, dict.fromkeys([*names, "README.md", "unet/diffusion_pytorch_model.bin"], entry))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return snapshot


def test_what_was_fetched_is_read_without_consent(fetched: Path) -> None:
    """Never all files of a repository are fetched, and the hub's library calls what is less incomplete."""
    assert hub_folder("owner/name", half=True, allow_download=False) == fetched
    assert load("owner/name").recommended.resolutions == (64,)
    assert _find("owner/name") == fetched


def test_with_the_full_weights_here_the_half_ones_are_not_fetched(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []
    real = huggingface_hub.snapshot_download

    def snapshot(repo: str, **options: Any) -> str:
        asked.extend(options.get("allow_patterns", ()))
        return real(repo, local_files_only=True) if options.get("local_files_only") else str(fetched)

    weights = [f"unet/diffusion_pytorch_model{dot}.safetensors" for dot in ("", ".fp16")]
    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repo: ["model_index.json", *weights])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    hub_folder("owner/name", half=True, allow_download=True)
    assert asked == ["model_index.json", weights[0]]
    (fetched / weights[0]).unlink()
    asked.clear()
    hub_folder("owner/name", half=True, allow_download=True)
    assert asked == ["model_index.json", weights[1]]


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_model_that_is_here_needs_no_hub_that_answers(fetched: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """It may be overloaded, or have given up the model."""
    import httpx2
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    def files(self: Any, repo: str) -> list[str]:
        raise HfHubHTTPError(f"{status} Error", response=httpx2.Response(status, request=httpx2.Request("GET", "https://hub")))

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", files)
    assert hub_folder("owner/name", half=True, allow_download=True) == fetched
    with pytest.raises(PriorError, match=f"'owner/other' cannot be fetched .{status} Error"):
        hub_folder("owner/other", half=True, allow_download=True)


def test_a_transfer_that_breaks_off_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def snapshot(repo: str, **options: Any) -> str:
        raise RuntimeError("Data processing error: connection reset")

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repo: ["model_index.json"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(PriorError, match=r"cannot be fetched \(Data processing error: connection reset") as caught:
        load("owner/name", allow_download=True)
    assert "connection" in caught.value.remedy
