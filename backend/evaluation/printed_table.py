"""A report's table in the terminal, a line as soon as its row is known. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Row = TypeVar("Row")


def print_table(headings: Sequence[str], rows: Iterable[tuple[str, Row]], mean: Callable[[list[Row]], Row]) -> None:
    """Prints a table in Markdown, and last the mean of its rows.

    Args:
        headings: of the columns.
        rows: (prompt, the other cells as one) of each; made when its turn comes. As text a row is those cells with ` | ` between.
    """
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}", flush=True)
    found = []
    for prompt, row in rows:
        found.append(row)
        print(f"| {prompt} | {row} |", flush=True)
    print(f"| **mean** | {mean(found)} |")
