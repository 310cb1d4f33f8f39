"""How a picture's code depends on paint and backdrop: a sum of linear maps of the channel code, each times a weight that gates decide on.

A weight may be any function of the colour (`units.py`), so that the reds, greens and blues of all colours are three maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import vocabulary
from ..renderer import CHANNELS
from .pictures import BACKDROPS, Paint
from .tokens import COLOURS, MATERIALS
from .units import CLOSED, LINEAR, slope_argument

MATERIAL_SHARE = 1 / 8
"""Of the prompts that ask for one of the materials."""
OWN_COLOUR = 4 / 3
"""How often a material's own colour is meant, for each time that it is painted in one of the named ones."""


@dataclass(frozen=True)
class Factor:
    """One of the maps, and when it counts.

    Attributes:
        table: [C, 3] how much of each channel it puts into red, green and blue.
        share: variance of its weight over prompts.
        argument: of its units, where no gate adds to it.
        colour, material, backdrop: [14], [5], [2] what the gates add to that.
    """

    table: Tensor
    share: float
    argument: float = LINEAR
    colour: Tensor | None = None
    material: Tensor | None = None
    backdrop: Tensor | None = None

    @property
    def slight(self) -> bool:
        """Whether its weight is a slope, so that units must read little."""
        return self.colour is not None


def factors() -> list[Factor]:
    """All that pictures differ by from one linear map of the channel code."""
    plain = torch.stack([_plain(name) for name in COLOURS])
    named = torch.tensor([1.0 if name in vocabulary.COLOURS else 0.0 for name in COLOURS])
    light = torch.zeros_like(plain[0])
    light[CHANNELS.index("alpha")] = BACKDROPS[0] - BACKDROPS[1]
    _, by_colour = _by_colour(plain, named + MATERIAL_SHARE * OWN_COLOUR * (1 - named))
    result = [Factor(light, 0.25, backdrop=torch.tensor([CLOSED, 0.0])), *by_colour]
    for index, material in enumerate(MATERIALS[1:], start=1):
        own = torch.tensor([1.0 if name == material else 0.0 for name in COLOURS])
        added = plain.clone()
        for row in (named + own).nonzero()[:, 0].tolist():
            added[row] = _table(COLOURS[row], material) - plain[row]
        always, by_colour = _by_colour(added, named + OWN_COLOUR * own)
        gate = torch.full((len(MATERIALS),), CLOSED)
        gate[index] = 0
        result.append(Factor(always, MATERIAL_SHARE * (1 - MATERIAL_SHARE), material=gate))
        for each in by_colour:
            result.append(Factor(each.table, MATERIAL_SHARE * each.share, each.argument, each.colour, gate))
    return result


def _table(colour: str, material: str) -> Tensor:
    """[C, 3] in a gate's colour, which may be a material's own."""
    return Paint(None if colour in vocabulary.COLOURLESS_MATERIALS else colour, material).table(BACKDROPS[0])


def _plain(colour: str) -> Tensor:
    """[C, 3] in a gate's colour, without any pattern."""
    if colour in vocabulary.COLOURS:
        return Paint(colour, None).table(BACKDROPS[0])
    table = Paint("gray", None).table(BACKDROPS[0])
    table[CHANNELS.index("primary")] = _table(colour, colour)[CHANNELS.index("primary")]
    return table


def _by_colour(tables: Tensor, counts: Tensor) -> tuple[Tensor, list[Factor]]:
    """Tables [14, C, 3] as (one [C, 3] that is always there, factors with weights 0..1), by principal components.

    Colours count by counts [14]; what is made of those that do not count at all has no meaning.
    """
    rows, matter = tables.flatten(1), counts > 0
    chance = counts / counts.sum()
    mean = chance @ rows
    _, singular, right = torch.linalg.svd(chance.sqrt()[:, None] * (rows - mean), full_matrices=False)
    always, result = mean, []
    for direction in right[singular > 1e-4 * singular.max()]:
        scores = (rows - mean) @ direction
        low, high = scores[matter].min(), scores[matter].max()
        always = always + low * direction
        weight = ((scores - low) / (high - low)).clamp(0, 1)
        share = (chance @ (weight - chance @ weight).square()).item()
        table = ((high - low) * direction).view_as(tables[0])
        result.append(Factor(table, share, 0.0, slope_argument(weight)))
    return always.view_as(tables[0]), result
