"""Where the jobs behind a report live: a folder for everything that was asked for, so that none is taken for another.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .. import __version__, settings
from ..config import GenerationConfig
from ..files import is_temporary
from ..job import JobFolder, slug


class WorkFolders:
    """The folders of what is made with one quality and one set of settings.

    Args:
        work: the folder that has them all.

    Raises:
        PriorError: the prior cannot be loaded, whose weights count: another model may have come to its name.
    """

    def __init__(self, work: Path, quality: str, config: GenerationConfig) -> None:
        self._work, self._quality, self._settings = work, quality, settings.to_dict(config)
        self._model = _weights(config)

    def folder(self, prompt: str, **more: object) -> Path:
        """That of a prompt.

        Args:
            more: what else was asked for, as JSON can hold it.
        """
        from ..embedded import world

        asked = [prompt, self._quality, self._settings, more, world.version(), __version__, *self._model]
        text = json.dumps(asked, sort_keys=True)
        return self._work / f"{slug(prompt)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def job_in(folder: Path) -> JobFolder | None:
    """The one job in a work folder, once it was begun; what a process left that was killed while it began is none. Raises `JobError`."""
    specs = (spec for spec in sorted(folder.glob("*/spec.json")) if not is_temporary(spec.parent))
    return next((JobFolder.open(spec.parent) for spec in specs), None)


def _weights(config: GenerationConfig) -> tuple[str, ...]:
    """What names the prior's weights; nothing for the exact prior, which has none but the world."""
    from ..embedded.exact_prior import ExactPrior
    from ..guidance.load import load_prior
    from ..pipeline import pick_device

    prior = load_prior(config.prior, pick_device(config.run.device), seed=0)
    return () if isinstance(prior, ExactPrior) else (prior.fingerprint,)
