"""Cards: the published claims about a model as data, each with its source.

Owns     the fields of a card and their checks, the reading of published documents, the zoo's own cards in `published/`.
In       model-index files and READMEs as published, including damaged ones.
Out      `Card`s by name and pattern, with errata for what a document gets wrong or omits.
Never    measure anything, load torch, or guess, without an erratum that says so, a value that a document omits.
"""

from zoo.cards.card import Card, Claim, Erratum, LabelOrder, WeightsFile

__all__ = ["Card", "Claim", "Erratum", "LabelOrder", "WeightsFile"]
