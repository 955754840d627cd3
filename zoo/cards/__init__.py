"""Cards: the published claims about a model as data, each with its source.

In       model-index files and READMEs as published, including damaged ones.
Out      `Card`s by name and pattern, with errata for what a document gets wrong or omits.

The zoo's own cards are in `published/`. The package does not measure anything, does not load torch, and does not guess
values that a document omits.
"""

from zoo.cards.card import Card, Claim, Erratum, LabelOrder, WeightsFile

__all__ = ["Card", "Claim", "Erratum", "LabelOrder", "WeightsFile"]
