"""Cards: what is claimed of a model, as data, each claim with its source.

Owns     the fields of a card and their checks, how published documents are read, the zoo's own cards in `published/`.
In       model-index files and READMEs as they were published, damaged ones included.
Out      `Card`s by name and pattern, with errata for what a document has wrong or leaves out.
Never    measure, load torch, or guess what a document does not say.
"""

from zoo.cards.card import Card, Claim, Erratum, LabelOrder, WeightsFile

__all__ = ["Card", "Claim", "Erratum", "LabelOrder", "WeightsFile"]
