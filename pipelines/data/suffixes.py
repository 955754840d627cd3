"""What the suffixes of names say: which files are pictures, which hold a label, which are shards."""

IMAGE_SUFFIXES = ("jpg", "jpeg", "jpe", "jfif", "png", "webp")
"""Of the pictures that people evaluate on. How a picture is decoded depends on its bytes alone."""
OTHER_PICTURES = ("gif", "bmp", "dib", "tif", "tiff", "avif", "heic", "heif", "jxl", "jp2")
"""Of a sample's picture where it has no other; masks and depth maps often have them."""
UNDECODED = ("heic", "heif", "jxl", "jp2")
"""Those of the others that are not decoded here."""
DECODED = (*IMAGE_SUFFIXES, *(suffix for suffix in OTHER_PICTURES if suffix not in UNDECODED))
"""Of pictures that are packed, each as a sample of its own."""
SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".parquet")
"""In any case. Whether a tar is compressed, and how, is told by its first bytes."""
LABEL = "cls"
MAX_IMAGE_BYTES = 64 << 20
"""The header of a member may state any size; a picture above this is a row with an error, and is never read."""
LABEL_ALONE = f"no image: a label without a member {'|'.join(IMAGE_SUFFIXES)}"


def last_suffix(name: str) -> str:
    """What follows the last dot of `name`, in lower case; all of it if it has none."""
    return name.rpartition(".")[2].lower()


def is_picture(name: str) -> bool:
    """Whether `name`, or a field of a sample, is a picture's."""
    suffix = last_suffix(name)
    return suffix in IMAGE_SUFFIXES or suffix in OTHER_PICTURES


def is_parquet(uri: str) -> bool:
    """Whether the shard at `uri` is Parquet; others are tars."""
    return uri.lower().endswith(".parquet")


def is_shard_name(uri: str) -> bool:
    """Whether the name of the object at `uri` is a shard's."""
    return uri.lower().endswith(SHARD_SUFFIXES)


def without_shard_suffix(uri: str) -> str:
    """`uri` without the suffix of a shard."""
    return uri[: -max(len(suffix) for suffix in SHARD_SUFFIXES if uri.lower().endswith(suffix))]
