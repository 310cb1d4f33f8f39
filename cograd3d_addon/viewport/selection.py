"""Which view regions are selected, apart for every grid. No bpy.

Lives in Python and not in the file: it is neither undone nor saved, like the job it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Selection:
    """The selected regions of one grid.

    Attributes:
        regions: their numbers.
        active: the one clicked last, whose numbers are shown; -1 for none. Always one of `regions`, if there are any.
        version: raised at every change.
    """

    regions: set[int] = field(default_factory=set)
    active: int = -1
    version: int = 0

    def click(self, region: int, *, extend: bool = False) -> None:
        """As a click on a region does: it alone, or with `extend` it too; a second one on the active region takes it out again."""
        if not extend:
            self.set((region,), active=region)
        elif region in self.regions and region == self.active:
            self.set(self.regions - {region})
        else:
            self.set(self.regions | {region}, active=region)

    def set(self, regions: Iterable[int], active: int | None = None) -> None:
        """Exactly these; `active` stays if it is among them, else it becomes the first."""
        regions = set(regions)
        if active is None or active not in regions:
            active = self.active if self.active in regions else min(regions, default=-1)
        if (regions, active) != (self.regions, self.active):
            self.regions, self.active = regions, active
            self.version += 1

    def limit(self, count: int) -> None:
        """Drop regions that a grid of `count` does not have."""
        if any(region >= count for region in self.regions):
            self.set(region for region in self.regions if region < count)


_selections: dict[str, Selection] = {}


def of(source: str) -> Selection:
    """The selection of a grid, by the id of what it belongs to."""
    return _selections.setdefault(source, Selection())


def forget_all() -> None:
    """Forget every selection."""
    _selections.clear()
