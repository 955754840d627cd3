"""Plain tables on standard output: no frame, columns that fold rather than lose text."""

from collections.abc import Collection, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def plain_table(
    headings: Sequence[str], right: Collection[str] = (), whole: Collection[str] = (), gap: int = 1
) -> Table:
    """A table without rows.

    Args:
        headings: of the columns.
        right: those aligned right; the others are aligned left.
        whole: those that are never folded, however narrow the terminal is.
        gap: spaces between columns.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for heading in headings:
        side = "right" if heading in right else "left"
        table.add_column(heading, justify=side, overflow="fold", no_wrap=heading in whole)
    return table
