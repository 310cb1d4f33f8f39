"""Takes the environment of `environment.py` away. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from itertools import count
from pathlib import Path

from .environment import OWNER_FILE, Environment, Status
from .errors import SetupError
from .installation import empty, installer_lock

_CANNOT_BE_MOVED = (errno.EBUSY, errno.EXDEV)
"""What the system says of the root of a disk, such as a container's volume, and of a folder in a container's image."""


def remove(environment: Environment) -> bool:
    """Delete the environment; False where there was none. Of one that is the root of a disk, the empty folder stays.

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
            try:
                _put_away(root)
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


def _put_away(root: Path) -> None:
    """First out of the way, then deleted: an interrupted removal leaves nothing that looks like an environment."""
    try:
        os.replace(root, _free_place(root))
    except OSError as error:
        if error.errno not in _CANNOT_BE_MOVED:
            raise
        empty(root, but=OWNER_FILE)  # which goes last: until then it is ours, and the removal can be repeated
        (root / OWNER_FILE).unlink()
        with contextlib.suppress(OSError):
            root.rmdir()


def _free_place(root: Path) -> Path:
    """Where an environment goes to be deleted. In containers process numbers recur: another removal may have left something there."""
    places = (root.with_name(f".{root.name}-removed-{number}") for number in count(os.getpid()))
    return next(place for place in places if not os.path.lexists(place))


def _doomed(root: Path) -> list[Path]:
    """Environments that were at this place and whose removal was begun."""
    name = re.compile(re.escape(f".{root.name}-removed-") + r"\d+")
    try:
        return [folder for folder in root.parent.iterdir() if name.fullmatch(folder.name)]
    except OSError:
        return []
