"""The members of a tar -> samples.

Consecutive members whose names share the base name up to its *first* dot are one sample, as in WebDataset, or several
with dots in their keys: `grouping` says which. In shards with our manifest every key goes up to the *last* dot.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby, islice
from operator import attrgetter
from typing import cast

from pipelines.data import labels
from pipelines.data.containers import ShardError
from pipelines.data.grouping import Part, Rule, named_pictures
from pipelines.data.labels import Label
from pipelines.data.suffixes import LABEL, LABEL_ALONE, is_picture, last_suffix
from pipelines.data.tar_members import Member, PassedOver, open_members
from pipelines.records import Reading, Sample, Shard

EVERY_PICTURE = "*"
"""--image-member: every picture is a sample, whose key goes up to the last dot."""
_PICTURE = "picture"
_MAX_TOGETHER = 64
_MAX_BYTES_TOGETHER = 256 << 20
"""More members with one base name, or more bytes, are samples with dots in their keys."""


def tar_samples(shard: Shard, passed: PassedOver) -> Iterator[Sample]:
    """Every sample of the tar `shard`, in order and up to its limit; what is passed over is counted in `passed`.

    Raises:
        ShardError, tarfile.TarError, OSError: if it is damaged.
    """
    reading = Reading.from_text(shard.reading)
    grouping = _Grouping(reading, _rule(reading), passed)
    ours = shard.sha256 is not None and reading.image_member is None
    by_last_dot = ours or reading.image_member == EVERY_PICTURE
    with open_members(shard, grouping.rule.label_field, passed) as members:
        found = grouping.by_last_dot(members) if by_last_dot else grouping.by_first_dot(members)
        yield from islice(found, shard.limit)


def named_within(shard: Shard, sample: Sample) -> str:
    """The key of the sample whose mask or other picture `sample` is, if that is in the shard too; else empty.

    `1.seg.png` beside `1.jpg` is passed over. Apart from it, it is a sample `1.seg` of its own.
    """
    if sample.label is not None or sample.offset is None or shard.sha256:
        return ""
    if Reading.from_text(shard.reading).image_member == EVERY_PICTURE:
        return ""
    folder, slash, name = sample.key.rpartition("/")
    first, dot, field = name.partition(".")
    return f"{folder}{slash}{first}" if dot and not field[:1].isdigit() else ""


@dataclass(frozen=True, slots=True)
class _Grouping:
    """Puts the members of a shard together, by its `reading`; `rule` divides those that share a stem."""

    reading: Reading
    rule: Rule
    passed: PassedOver

    def by_last_dot(self, members: Iterable[Member]) -> Iterator[Sample]:
        """Consecutive members of one key are a sample; one that repeats a picture or label begins another."""
        held: dict[str, Member] = {}
        for member in members:
            slot = _PICTURE if is_picture(member.field) else last_suffix(member.field)
            if held and (member.key != next(iter(held.values())).key or slot in held):
                yield self._keyed(held)
                held = {}
            held[slot] = member
        if held:
            yield self._keyed(held)

    def _keyed(self, held: dict[str, Member]) -> Sample:
        slot = last_suffix(self.rule.label_field or LABEL)
        return self._sample(next(iter(held.values())).key, held.get(_PICTURE), held.get(slot))

    def by_first_dot(self, members: Iterable[Member]) -> Iterator[Sample]:
        """Consecutive members of one stem are a sample, or several with dots in their keys."""
        held: list[Member] = []
        before: frozenset[str] = frozenset()
        for together, more in map(_together, _runs(self._wanted(members))):
            yield from self._divided(held, before | _named(together))
            held, before = together, _named(held)
            if more:
                self._require_separate(together)
                yield from self.by_last_dot(chain(together, more))
                held, before = [], frozenset()
        yield from self._divided(held, before)

    def _wanted(self, members: Iterable[Member]) -> Iterator[Member]:
        """Without pictures that are not meant where --image-member names one: a sample may have thousands."""
        for member in members:
            if self.rule.image_field and is_picture(member.field) and member.field != self.rule.image_field:
                self.passed.add(member.field)
            else:
                yield member

    def _require_separate(self, together: Sequence[Member]) -> None:
        """Raise ShardError if members that are too many to be kept together are one sample all the same."""
        fields = [member.field for member in together]
        paired = all(self.rule.own_label(field) in fields for field in fields if is_picture(field) and "." in field)
        plain = [field for field in fields if "." not in field]
        if plain and not paired:
            raise ShardError(
                f"sample {together[0].stem!r} has more than {_MAX_TOGETHER} members ({', '.join(fields[:4])}, …); "
                f"--image-member {next(filter(is_picture, plain + fields), 'jpg')} takes one, "
                f"--image-member '{EVERY_PICTURE}' makes each a sample"
            )

    def _divided(self, group: Sequence[Member], elsewhere: frozenset[str]) -> Iterator[Sample]:
        """The samples of a group; a field that comes again begins another group."""
        for members in _without_repeats(group):
            parts, passed = _parts(self.rule, tuple(member.field for member in members), elsewhere)
            yield from (self._sample_of(part, members) for part in parts)
            for field in passed:
                self.passed.add(field)

    def _sample_of(self, part: Part, members: Sequence[Member]) -> Sample:
        picture, label = (None if place is None else members[place] for place in (part.picture, part.label))
        first = members[part.place]
        return self._sample(first.key if part.dotted else first.stem, picture, label, part.error, first.offset)

    def _sample(
        self, key: str, picture: Member | None, label: Member | None, error: str = "", offset: int = 0
    ) -> Sample:
        value, reason = self._label(picture, label)
        if picture is None:
            reason = error or LABEL_ALONE
        elif isinstance(picture.content, str):
            reason = picture.content
        image = cast(bytes, picture.content) if picture and not reason else None
        begins = next((member.offset for member in (picture, label) if member), offset)
        return Sample(key=key, image=image, label=value, error=reason, offset=begins)

    def _label(self, picture: Member | None, label: Member | None) -> Label:
        if self.reading.label_from == "path":
            return labels.from_folder(picture.path) if picture else Label()
        if label is None:
            return Label()
        if isinstance(label.content, str):
            return Label(error=label.content)
        kind, _, field = (self.reading.label_member or LABEL).partition(":")
        if last_suffix(kind) == "json":
            return labels.from_json(label.content, field or "label")
        return labels.from_text(label.content)


def _rule(reading: Reading) -> Rule:
    chosen, label = reading.image_member, (reading.label_member or "").partition(":")[0]
    return Rule(chosen.lower() if chosen else None, label.lower() or None)


@lru_cache(1024)
def _parts(rule: Rule, fields: tuple[str, ...], elsewhere: frozenset[str]) -> tuple[list[Part], list[str]]:
    """The samples of a group, and its fields that belong to none; most groups of a shard have the same fields."""
    parts = rule.parts(fields, elsewhere)
    used = {place for part in parts for place in (part.picture, part.label)}
    return parts, [field for place, field in enumerate(fields) if place not in used]


def _runs(members: Iterable[Member]) -> Iterator[Iterator[Member]]:
    """Consecutive members of one stem, each to be read before the next."""
    return (run for _, run in groupby(members, attrgetter("stem")))


def _together(run: Iterator[Member]) -> tuple[list[Member], Iterator[Member] | None]:
    """The members of one stem, and those that are left if they are too many to be kept together."""
    together: list[Member] = []
    size = 0
    for member in run:
        together.append(member)
        size += len(member.content)
        if len(together) > _MAX_TOGETHER or size > _MAX_BYTES_TOGETHER:
            return together, run
    return together, None


def _without_repeats(members: Sequence[Member]) -> Iterator[list[Member]]:
    held: list[Member] = []
    for member in members:
        if any(member.field == other.field for other in held):
            yield held
            held = []
        held.append(member)
    if held:
        yield held


def _named(members: Sequence[Member]) -> frozenset[str]:
    return named_pictures(member.field for member in members if "." in member.field)
