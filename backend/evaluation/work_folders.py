"""Where the jobs behind a report live: a folder for everything that was asked for, so that none is taken for another.

Standard library only at import, so that the command line can show its help before an environment stands.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .. import __version__, settings
from ..config import GenerationConfig
from ..job import slug


def work_folder(work: Path, prompt: str, quality: str, config: GenerationConfig, **more: object) -> Path:
    """The folder below `work` for a prompt made with these settings.

    Args:
        more: what else was asked for, as JSON can hold it.
    """
    from ..embedded import world

    text = json.dumps([prompt, quality, settings.to_dict(config), more, world.version(), __version__], sort_keys=True)
    return work / f"{slug(prompt)}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
