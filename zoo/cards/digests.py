"""The digest in a file's name, by torch.hub's convention."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def digest_in(name: str) -> str | None:
    """The digest that a file's name holds, as in `resnet50-0676ba61.pth`; None where it holds none.

    This is torch.hub's convention: after the last hyphen, eight or more digits that begin the file's SHA-256.
    """
    digest = re.search(r"-([0-9a-f]{8,64})\.\w+$", name.partition("?")[0])
    return digest[1] if digest else None
