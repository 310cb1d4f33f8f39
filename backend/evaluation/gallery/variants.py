"""What the gallery compares: methods, ablations of the full method, and the forms of what the paper leaves open. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from ... import settings
from ...config import GenerationConfig
from ...errors import UsageError
from ..methods import METHODS

FULL = "cograd3d"
"""The method that everything is compared with."""


@dataclass(frozen=True)
class Variant:
    """A way of running one prompt.

    Attributes:
        name: in tables and records.
        method: the method preset.
        without: the parts that are switched off, by the paper's letters.
        sets: settings, `section.name=value`, on top of the preset's.
    """

    name: str
    method: str = FULL
    without: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()

    def config(self, quality: str, sets: Iterable[str]) -> GenerationConfig:
        """Its settings, with these on top, and with what a comparison holds equal: every run begins with the same Gaussians."""
        start = settings.resolve(quality, None).gaussians
        equal = (f"gaussians.initial={start.initial}", f"gaussians.count={start.count}", f"gaussians.grow={start.grow}")
        return settings.resolve(quality, self.method, sets=[*self.sets, *equal, *sets], without=self.without)


def _form(name: str, *sets: str) -> Variant:
    return Variant(f"{FULL}: {name}", sets=sets)


GROUPS: dict[str, tuple[Variant, ...]] = {
    "all": tuple(Variant(name, method=name) for name in METHODS),
    "ablations": (
        Variant(FULL),
        *(Variant(f"w/o {', '.join(parts)}", without=tuple(parts)) for parts in ("A", "B", "C", "AB", "AC", "BC", "ABC")),
        Variant("annealed-only", method="annealed-only"),
    ),
    "forms": (
        Variant(FULL),
        _form("one region a step", "optimizer.views_per_region=4"),
        _form("literal indicator", "region_sampling.indicator=literal"),
        _form("level indicator", "region_sampling.indicator=level"),
        _form("consensus of neighbours", "timestep_sampling.neighbourhood=consensus"),
        _form("one projection", "gradient_fusion.projection=global"),
        _form("no cap", "gradient_fusion.cap=inf"),
        _form("fusion to the end", "gradient_fusion.stop=1"),
        Variant("cograd3d-literal", method="cograd3d-literal"),
    ),
}
"""The paper's Table 1; its Table 2 with all eight on/off combinations (A: regions, B: timesteps, C: fusion) and the control; eqs. 6 to 10
in their other forms, one at a time and all at once."""


def chosen(names: Iterable[str]) -> tuple[Variant, ...]:
    """Variants from names of groups and of variants, each once, in the order given.

    Raises:
        UsageError: there is no such name.
    """
    known = {variant.name: variant for group in GROUPS.values() for variant in group}
    found: dict[str, Variant] = {}
    for name in names:
        if name not in GROUPS and name not in known:
            near = get_close_matches(name, [*GROUPS, *known], n=1)
            raise UsageError(
                f"There is nothing to compare by the name {name}{f'; {near[0]} is near' if near else ''}.",
                remedy=f"Known: {', '.join([*GROUPS, *known])}.",
            )
        found |= {variant.name: variant for variant in GROUPS.get(name, (known.get(name),)) if variant is not None}
    return tuple(found.values())
