"""Covers pipelines.cells.column: names of columns, which are folders of cells in stores that exist."""

from dataclasses import replace

import zoo
from pipelines.cells.column import Column
from pipelines.records import Settings
from zoo.weights.wanted import Wanted

PLAIN = Column(card=zoo.card("efficientnet_lite0"), file=Wanted(file="a.pth", sha256="ab" * 32, sources=()))
FAST = Column(
    card=zoo.card("resnest50d"),
    file=Wanted(file="b.pth", sha256="cd" * 32, sources=()),
    settings=Settings(precision="bf16", batch_size=64, fold=True),
    decoder="fast",
    max_classes_kept=5,
)


def test_columns_have_the_names_under_which_stores_hold_their_cells() -> None:
    assert PLAIN.name == "efficientnet_lite0-abababab-bd32c0ad"
    assert FAST.name == "resnest50d-cdcdcdcd-cdab7ff4"
    ensemble = replace(PLAIN, max_classes_kept=5, ensemble=(FAST,))
    assert ensemble.name == "efficientnet_lite0+resnest50d-ad4788d0-3680f69f"
