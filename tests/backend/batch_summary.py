"""What a batch says became of its prompts."""

from __future__ import annotations

import csv
from pathlib import Path


def summary(folder: Path) -> list[dict[str, str]]:
    with open(folder / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))
