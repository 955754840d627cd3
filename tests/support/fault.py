"""What goes wrong between an S3 client and its server: the kinds of faults that `fault_proxy.FaultProxy` makes."""

from collections.abc import Callable
from dataclasses import dataclass

INSTEAD = {"status", "reset", "hang"}
AROUND = {"flip_up", "before", "after", "lost_ack"}
IN_THE_BODY = {"stall", "slow", "truncate", "bitflip"}


@dataclass
class Fault:
    """What goes wrong with the requests whose "METHOD /path?query" contains the regex `match`.

    Kinds, with what `argument` means:
        status: an S3 error with this code (503 if none) instead of an answer; the request is not forwarded
        reset: the connection is reset instead; not forwarded
        hang: nothing for so many seconds, then the connection is closed; not forwarded
        flip_up: one bit of the request's body is flipped on its way; passes over requests without a body
        before, after: `call()` runs before the request is forwarded, or between its execution and its answer
        lost_ack: the request is executed, and the connection reset instead of the answer
        stall: so many seconds of silence in the middle of the answer's body
        slow: the answer's body comes at so many bytes a second
        truncate: the body ends after half of what Content-Length says, and the connection with it
        bitflip: one bit of the answer's body is flipped; the headers stay, checksums too
    The last four pass over answers without a body. `times`: how often it may still happen; None: always.
    """

    kind: str
    match: str = ""
    probability: float = 1.0
    times: int | None = None
    argument: float | int | None = None
    call: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        known = INSTEAD | AROUND | IN_THE_BODY
        if self.kind not in known:
            raise ValueError(f"unknown kind of fault {self.kind!r}; known: {', '.join(sorted(known))}")
        if self.kind in {"hang", "stall", "slow"} and not self.argument:
            raise ValueError(f"{self.kind!r} needs an argument above 0")
        if (self.kind in {"before", "after"}) != (self.call is not None):
            raise ValueError(f"{self.kind!r}: 'before' and 'after' need a `call`, no other kind takes one")
