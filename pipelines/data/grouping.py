"""Which members of a tar that share a base name are which sample: a rule about names, that sees no bytes.

The names here are fields: what follows the first dot of the base name, in lower case (`jpg`, `cls`, `seg.png`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.data.suffixes import IMAGE_SUFFIXES, LABEL, is_picture, last_suffix

_LABEL_FIELDS = (LABEL, "label.cls", "output.cls")
_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One sample of a group.

    Attributes:
        picture: place of its picture in the group; None if it has none.
        label: place of its label, likewise.
        dotted: whether its key goes up to the last dot of the picture's name, not to the first.
        error: why the picture is not known; empty where it is.
    """

    picture: int | None = None
    label: int | None = None
    dotted: bool = False
    error: str = ""

    @property
    def place(self) -> int:
        """Where in the group it stands."""
        return next((place for place in (self.picture, self.label) if place is not None), 0)


@dataclass(frozen=True, slots=True)
class Rule:
    """How a group is divided: fields that the options name, in lower case; None for the usual ones."""

    image_field: str | None = None
    label_field: str | None = None

    @property
    def label_fields(self) -> tuple[str, ...]:
        """Where a group's label may be, in this order."""
        return (self.label_field,) if self.label_field else _LABEL_FIELDS

    def own_label(self, picture: str) -> str:
        """The field of the label that belongs to one picture of several: `a.cls` of `a.jpg`; empty if plain."""
        name, dot, _ = picture.rpartition(".")
        return f"{name}{dot}{self.label_field or LABEL}" if dot else ""

    def parts(self, fields: Sequence[str], elsewhere: frozenset[str] = frozenset()) -> list[Part]:
        """The samples of a group, in order.

        Args:
            fields: of its members, each once.
            elsewhere: the named pictures (see `named_pictures`) of the groups beside it. Pictures that recur under the
                same names are several pictures of each sample, of which one may have the label (`rgb.jpg rgb.cls`);
                others are samples with dots in their keys.
        """
        if self.image_field is not None:
            return [self._chosen(fields)]
        places = {field: place for place, field in enumerate(fields)}
        pictures = self._pictures(fields)
        labelled: dict[int, list[int]] = {}
        for place in pictures:
            if (own := self.own_label(fields[place])) in places:
                labelled.setdefault(places[own], []).append(place)
        pairs = [_one(fields, meant, label, dotted=True) for label, meant in labelled.items()]
        free = [place for place in pictures if all(place not in meant for meant in labelled.values())]
        if pairs and named_pictures(fields[place] for place in free) <= elsewhere:
            free = [place for place in free if not named_pictures([fields[place]])]
        rest = self._rest(fields, free, self._label(fields, taken=labelled), elsewhere)
        alone = [] if any(not part.dotted for part in rest) else self._alone(fields, {*labelled})
        return sorted([*pairs, *rest, *alone], key=lambda part: part.place)

    def _pictures(self, fields: Sequence[str]) -> list[int]:
        """Those that are no part of another picture's sample, as `v1.seg.png` is of `v1.jpg`'s."""
        places = [place for place, field in enumerate(fields) if is_picture(field)]
        names = {fields[place].rpartition(".")[0] for place in places if "." in fields[place]}
        return [
            place for place in places if self.own_label(fields[place]) in fields or not _is_within(fields[place], names)
        ]

    def _chosen(self, fields: Sequence[str]) -> Part:
        label = self._label(fields, taken=())
        own = self.own_label(self.image_field or "")
        if label is None and own in fields:
            label = fields.index(own)
        if self.image_field in fields:
            return Part(picture=fields.index(self.image_field), label=label)
        return Part(label=label, error=f"no image: no member {self.image_field}; there are {_list(fields)}")

    def _label(self, fields: Sequence[str], taken: Iterable[int]) -> int | None:
        found = (fields.index(field) for field in self.label_fields if field in fields)
        return next((place for place in found if place not in {*taken}), None)

    def _rest(
        self, fields: Sequence[str], free: Sequence[int], label: int | None, elsewhere: frozenset[str]
    ) -> list[Part]:
        """The samples of the pictures without a label of their own, and of the group's label."""
        plain = [place for place in free if "." not in fields[place]]
        recurring = len(free) > 1 and not named_pictures(fields).isdisjoint(elsewhere)
        if plain or label is not None or recurring:
            return [_one(fields, plain or free, label)]
        return [Part(picture=place, dotted=True) for place in free]

    def _alone(self, fields: Sequence[str], taken: set[int]) -> list[Part]:
        """Labels of pictures that are not there, in a group of keys with dots."""
        ending = last_suffix(self.label_field or LABEL)
        lone = (place for place, field in enumerate(fields) if field.endswith(f".{ending}") and place not in taken)
        return [Part(label=place, dotted=True) for place in lone]


def named_pictures(fields: Iterable[str]) -> frozenset[str]:
    """The pictures that have a name within their sample (`seg.png`); a number (`0001.jpg`) is part of a key."""
    return frozenset(field for field in fields if is_picture(field) and not field.partition(".")[0].isdigit())


def _is_within(field: str, names: Iterable[str]) -> bool:
    """Whether a picture has a name within one of `names`; a number is a further part of a key."""
    own = field.rpartition(".")[0]
    return any(own.startswith(f"{name}.") and not own[len(name) + 1 :][:1].isdigit() for name in names)


def _one(fields: Sequence[str], pictures: Sequence[int], label: int | None, *, dotted: bool = False) -> Part:
    """The sample of one of `pictures`, or of none if several could be meant."""
    meant = _preferred(fields, pictures)
    if len(meant) < 2:
        return Part(picture=meant[0] if meant else None, label=label, dotted=dotted)
    several = _list([fields[place] for place in meant])
    return Part(label=label, dotted=dotted, error=f"several pictures: {several}; --image-member says which is meant")


def _preferred(fields: Sequence[str], pictures: Sequence[int]) -> list[int]:
    """Those that are photographs by their suffix, if there are any: `gif` and `tif` beside a `jpg` are masks."""
    usual = [place for place in pictures if last_suffix(fields[place]) in IMAGE_SUFFIXES]
    return usual or list(pictures)


def _list(fields: Sequence[str]) -> str:
    return ", ".join(sorted(fields)[:_SHOWN]) + (", …" if len(fields) > _SHOWN else "")
