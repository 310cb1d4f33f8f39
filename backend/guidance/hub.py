"""Models of the hub: what of a repository is needed, and its local copy, fetched only with consent."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ..errors import PriorError
from .pipeline_files import DENOISER_WEIGHTS, EXTRA_FILE, HALF_VARIANT, INDEX_FILE, TEXT_WEIGHTS, first_line

NETWORKS = {
    "unet": DENOISER_WEIGHTS,
    "transformer": DENOISER_WEIGHTS,
    "vae": DENOISER_WEIGHTS,
    "text_encoder": TEXT_WEIGHTS,
    "text_encoder_2": TEXT_WEIGHTS,
    "text_encoder_3": TEXT_WEIGHTS,
}
"""Every network that some family needs, with the names of its weights."""


def hub_folder(repo: str, *, half: bool, allow_download: bool, weights: Collection[str] = tuple(NETWORKS)) -> Path:
    """The local snapshot of a hub repository; with consent, its needed files are fetched first, in half precision if there is a choice,
    `half` is wished, and the full ones are not here already. Where $HF_HUB_OFFLINE forbids the network, or there is none, consent makes no
    difference.

    Args:
        weights: the networks whose weights are needed, beside everybody's configuration.

    Raises:
        PriorError: it is not on this computer and may not, or cannot, be fetched.
    """
    import huggingface_hub
    from httpx2 import TransportError  # no OSError, and what the hub's library lets through
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    offline = huggingface_hub.is_offline_mode()
    try:
        if offline or not allow_download:
            return local_snapshot(repo)
        try:
            listing = huggingface_hub.HfApi().list_repo_files(repo)
        except TransportError:
            return local_snapshot(repo)
        except HfHubHTTPError:  # it is overloaded, asks who we are, or has the model no more: one that is here already will do
            with contextlib.suppress(LocalEntryNotFoundError):
                return local_snapshot(repo)
            raise
        files = files_to_download(listing, half=half, weights=weights, here=_files_here(repo))
        return Path(huggingface_hub.snapshot_download(repo, allow_patterns=files))
    except GatedRepoError as error:
        raise PriorError(
            f"The hub gives '{repo}' only to those who have accepted its licence.",
            remedy="Accept it on the model's page and log in with `hf auth login`, or give a pipeline folder on this computer.",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, TransportError) as error:
        if offline and allow_download:
            raise PriorError(
                f"The model '{repo}' is not on this computer, and the network may not be used now.",
                remedy="Allow online access, or give a pipeline folder or a .safetensors file.",
            ) from error
        if allow_download:
            raise PriorError(
                f"The hub cannot be reached for '{repo}'.", remedy="Check the connection, or give a pipeline folder on this computer."
            ) from error
        raise PriorError(
            f"The model '{repo}' is not on this computer, and nothing is downloaded without consent.",
            remedy="Allow downloads (several GB), or give a pipeline folder or a .safetensors file.",
        ) from error
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:  # the last of the hub's own transfer, of lost connections too
        raise PriorError(
            f"The model '{repo}' cannot be fetched ({first_line(error)}).", remedy="Check its name and the connection."
        ) from error


def local_snapshot(repo: str) -> Path:
    """What is on this computer of a hub repository: the snapshot that its name stands for, which need not have all its files.

    Raises:
        LocalEntryNotFoundError: nothing is.
    """
    import huggingface_hub
    from huggingface_hub.errors import IncompleteSnapshotError

    try:
        return Path(huggingface_hub.snapshot_download(repo, local_files_only=True))
    except IncompleteSnapshotError as error:  # of any file that a repository has, while only those that are needed are ever fetched
        return Path(error.snapshot_path)


def _files_here(repo: str) -> set[str]:
    """Of a hub repository's files, those on this computer."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = local_snapshot(repo)
    except LocalEntryNotFoundError:
        return set()
    return {file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file()}


def files_to_download(
    files: Sequence[str], *, half: bool, weights: Collection[str] = tuple(NETWORKS), here: Collection[str] = ()
) -> list[str]:
    """Of a hub repository's files, those that a prior needs: one copy of each network's safetensors, configurations, tokenizers.

    Full weights that are `here` will do where half ones are wished.
    """
    wanted = [file for file in files if file in (INDEX_FILE, EXTRA_FILE) or re.fullmatch(r"(tokenizer(_[23])?|scheduler)/[^/]+", file)]
    for component, names in NETWORKS.items():
        wanted += [file for file in files if file == f"{component}/config.json"]
        if component not in weights:
            continue
        stem = re.escape(names[0].partition(".")[0])
        copies = []
        for dot in ("", rf"\.{HALF_VARIANT}"):
            shard = r"-\d+-of-\d+"  # the libraries have put the variant before and after it
            pattern = rf"{component}/{stem}({dot}|{dot}{shard}|{shard}{dot})\.safetensors|{component}/{stem}\.safetensors\.index{dot}\.json"
            copies.append([file for file in files if re.fullmatch(pattern, file)])
        full, halved = copies
        full_will_do = full and (not half or not halved or set(full) <= set(here))
        wanted += full if full_will_do else halved
    return wanted
