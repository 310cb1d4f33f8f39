"""Makes the pictures of docs/blender.md: `python3 -m nox -s pictures`, `python -m tests.screen.pictures BLENDER` with a worker at hand."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from tests.blender.extension_zip import extension_zip
from tests.screen.driver import BlenderRun, install

PICTURES = Path(__file__).parents[2] / "docs" / "blender"
NAMES = ("panel", "grid", "view", "look-through", "imported", "render")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blender", type=Path)
    parser.add_argument("--quality", default="normal")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environ = {name: str(folder / name.lower()) for name in ("COGRAD3D_JOBS", "XDG_DATA_HOME")}
        profile = folder / "profile"
        install(args.blender, extension_zip(folder, str(args.blender)), profile, environ)
        run = BlenderRun(args.blender, profile, folder / "run", "pictures", environ=environ, arguments={"quality": args.quality})
        with run:
            outcome = run.finish(timeout=1800)
        PICTURES.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if outcome.screenshot(name).exists():
                shutil.copyfile(outcome.screenshot(name), PICTURES / f"{name}.png")
        assert not outcome.failure, outcome.failure


if __name__ == "__main__":
    main()
