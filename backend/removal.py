"""Takes the environment of `environment.py` away. Standard library only."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from .environment import Environment, Status
from .errors import SetupError
from .installation import installer_lock


def remove(environment: Environment) -> bool:
    """Delete the environment; False where there was none.

    Raises:
        SetupError: the folder is not ours, or in use.
    """
    root = Path(os.path.realpath(environment.root))  # of a link it is what it leads to that takes the room
    absent = environment.state().status is Status.ABSENT
    if absent and not _doomed(root):
        return False
    if not absent and not environment.is_ours():
        raise SetupError(
            f"{environment.root} is no environment of CoGrad3D, so it is left alone.", remedy="Name the right folder with --location."
        )
    with installer_lock(environment.root, None):
        if not absent:
            # First out of the way, then deleted: an interrupted removal leaves nothing that looks like an environment.
            try:
                os.replace(root, root.with_name(f".{root.name}-removed-{os.getpid()}"))
            except OSError as error:
                raise SetupError(
                    f"{environment.root} cannot be removed: {error.strerror or error}.",
                    remedy="End the programs that use it, then try again.",
                ) from error
        for folder in _doomed(root):
            shutil.rmtree(folder, ignore_errors=True)
        if left := _doomed(root):
            raise SetupError(f"Not all of {environment.root} could be removed: {left[0]} is left.", remedy="Delete that folder yourself.")
        if environment.root.is_symlink():
            environment.root.unlink()
    return True


def _doomed(root: Path) -> list[Path]:
    """Environments that were at this place and whose removal was begun."""
    name = re.compile(re.escape(f".{root.name}-removed-") + r"\d+")
    try:
        return [folder for folder in root.parent.iterdir() if name.fullmatch(folder.name)]
    except OSError:
        return []
