"""What the little cameras cost: `python -m tests.screen.bench_redraw BLENDER` prints milliseconds a redraw, with the grid and without.

Both are taken in turns in one Blender; compare the ratio and the difference, not the milliseconds of different machines. Under software
OpenGL (Xvfb without a GPU) drawing takes far longer than on any graphics card.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.blender.extension_zip import extension_zip
from tests.screen.driver import BlenderRun, install


def line(regions: int, values: Mapping[str, list[float]]) -> str:
    """The figures of one grid."""
    without, shown = (statistics.median(values[name]) for name in ("without_ms", "with_ms"))
    best = min(values["with_ms"]) - min(values["without_ms"])
    return (
        f"{regions:4d} regions: {shown:6.2f} ms a redraw, {without:6.2f} ms without the grid: {shown / without:.2f} times, "
        f"{shown - without:+.2f} ms (least of each: {best:+.2f} ms); under the mouse {statistics.median(values['pick_ms']):.2f} ms, "
        f"new numbers {statistics.median(values['rebuild_ms']):.2f} ms; built {values['builds']} times in {len(values['with_ms'])} redraws"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blender", type=Path)
    parser.add_argument("--regions", type=int, nargs="+", default=[36, 288], help="36, 72 or 288")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environ = {name: str(folder / name.lower()) for name in ("COGRAD3D_JOBS", "XDG_DATA_HOME")}
        install(args.blender, extension_zip(folder, str(args.blender)), folder / "profile", environ)
        arguments = {"regions": args.regions}
        with BlenderRun(args.blender, folder / "profile", folder / "run", "bench_redraw", environ=environ, arguments=arguments) as run:
            outcome = run.finish(timeout=300)
        assert not outcome.failure, outcome.failure
    for regions in args.regions:
        print(line(regions, outcome.values[f"regions_{regions}"]))


if __name__ == "__main__":
    main()
