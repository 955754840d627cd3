"""Digests in the names of files, by torch.hub's convention."""

import re


def digest_in(name: str) -> str | None:
    """The digest in a file's name or URL, as in `resnet50-0676ba61.pth`; None if there is none.

    By torch.hub's convention it follows the last hyphen: the first eight or more hexadecimal digits of the SHA-256.
    """
    digest = re.search(r"-([0-9a-f]{8,64})\.\w+$", name.partition("?")[0])
    return digest[1] if digest else None
