"""The header of a tar's member, strictly: what cannot be read is an error, never the end of the archive."""

import re
import tarfile
from typing import cast

_MAX_MEMBER_BYTES = 1 << 36
"""A header can state 2**88 bytes, and tarfile would seek through all of them for the next header."""
_USUAL_HEADER = re.compile(
    rb"(?P<name>[^\0]{1,99})\0+.{24}(?P<size>[0-7]{11})[\0 ].{12}(?P<sum>[0-7]{6})\0 (?P<type>0)\0{100}"
    rb"ustar(\x0000|  \0).{80}\0{167}",
    re.DOTALL,
)
"""Of a file whose name fits: 100 bytes of name, mode, owner, group, size, time, sum, type, no link, no prefix."""


class StrictHeader(tarfile.TarInfo):
    """tarfile takes an unreadable or missing header for the end of the archive; here only the end marker is the end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "StrictHeader":  # pyright: ignore[reportIncompatibleMethodOverride]
        """As tarfile does, which sums every header up twice in Python; the usual header of a file is parsed here."""
        usual = _USUAL_HEADER.fullmatch(buf)
        # The sum is of the header with spaces in place of the sum's own digits, its zero and its space.
        if not usual or sum(buf) - sum(usual["sum"]) + 7 * ord(" ") != int(usual["sum"], 8):
            return cls._unusual(buf, encoding, errors)
        member = cls(usual["name"].decode(encoding, errors))
        member.size, member.type = int(usual["size"], 8), usual["type"]
        return member

    @classmethod
    def _unusual(cls, buf: bytes, encoding: str, errors: str) -> "StrictHeader":
        member = cast("StrictHeader", super().frombuf(buf, encoding, errors))
        if buf[257:265] == tarfile.GNU_MAGIC and member.name.endswith(name := _text(buf[:100], encoding, errors)):
            member.name = name  # GNU tar's incremental archives have times where others have folders of the name
        return member

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "StrictHeader":  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next header of `tar`; any but the end marker that is none is a ReadError."""
        try:
            member = cast("StrictHeader", super().fromtarfile(tar))
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"not a tar, or cut or damaged at byte {tar.offset}: {error}") from error
        if not 0 <= member.size <= _MAX_MEMBER_BYTES:
            raise tarfile.ReadError(f"damaged at byte {member.offset}: a member claims {member.size} bytes")
        return member


def _text(field: bytes, encoding: str, errors: str) -> str:
    return field.partition(b"\0")[0].decode(encoding, errors)
