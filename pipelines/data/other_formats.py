"""What lies where a dataset is looked for and is no shard: which format its names tell, and what to do about it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.data.suffixes import IMAGE_SUFFIXES, OTHER_PICTURES, SHARD_SUFFIXES

_REWRITE = "read it with its own library and write it as WebDataset tars, or as Parquet with encoded pictures"


@dataclass(frozen=True, slots=True)
class _Format:
    """Files that are no shards: what they are, how their paths look in lower case, what to do."""

    name: str
    path: re.Pattern[str]
    remedy: str = _REWRITE


_FORMATS = (
    _Format("MosaicML streaming shards (MDS)", re.compile(r"\.mds(\.\w+)?$")),
    _Format("TFRecord files", re.compile(r"\.tfrec(ord)?s?\b[^/]*$|/[^/]+-\d{5}-of-\d{5}$")),
    _Format("files of an LMDB database", re.compile(r"/(data|lock)\.mdb$|\.[lm]mdb$|\.lmdb/")),
    _Format("files of a Lance dataset", re.compile(r"\.lance(/|$)")),
    _Format("HDF5 files", re.compile(r"\.(h5|hdf5?)$")),
    _Format("NumPy files", re.compile(r"\.np[yz]$")),
    _Format("MXNet RecordIO files", re.compile(r"\.rec$")),
    _Format("FFCV files", re.compile(r"\.beton$")),
    _Format(
        "Arrow files",
        re.compile(r"\.(arrow|feather)$"),
        "write them as Parquet: datasets.load_from_disk(FOLDER).to_parquet(FILE) for those of Hugging Face",
    ),
    _Format("Avro or ORC files", re.compile(r"\.(avro|orc)$"), "write them as Parquet"),
    _Format("Python pickles", re.compile(r"\.(pkl|pickle|pt|pth)$|/(data_batch_\d|test_batch)$")),
    _Format("MNIST's IDX files", re.compile(r"-ubyte(\.gz)?$")),
    _Format(
        "Parquet files under another suffix",
        re.compile(r"\.(parq|pq|parquet\.\w+)$"),
        "rename them to end in .parquet, after gunzip where the whole file was compressed",
    ),
    _Format(
        "tars in a compression that is not read",
        re.compile(r"\.(tar\.(bz2|xz|lzma|lz4|lz|br|z)|tbz2?|txz|tlz)$"),
        "decompress them, or compress them with gzip or zstd",
    ),
    _Format(
        "archives",
        re.compile(r"\.(zip|7z|rar)$"),
        "unpack them; jobs.pack_shards --images packs a folder of images, --data takes unpacked shards",
    ),
    _Format(
        "images",
        re.compile(rf"\.({'|'.join(IMAGE_SUFFIXES + OTHER_PICTURES)})$"),
        "jobs.pack_shards --images FOLDER packs a folder of images",
    ),
    _Format(
        "tables of text",
        re.compile(r"\.(csv|tsv|jsonl)(\.gz)?$"),
        "jobs.pack_shards --keys packs the images that a list names",
    ),
)
_TEXT = _FORMATS[-1]
"""Lists lie beside most things, so that they are what a folder is only where nothing else is in it."""

_TABLES = (
    _Format("a Delta table", re.compile(r"/_delta_log/")),
    _Format("an Iceberg table", re.compile(r"/metadata/[^/]*\.metadata\.json$")),
    _Format("a Hudi table", re.compile(r"/\.hoodie/")),
    _Format("a folder of an unfinished Spark job", re.compile(r"/_temporary/")),
)


def no_shard(source: str, uris: Iterable[str]) -> str:
    """The message for a `source` below which only `uris` lie, none a shard: what they are and what to do."""
    uris = list(uris)
    plain = f"no shard ({', '.join(SHARD_SUFFIXES)}) under {source}"
    found = {uri: form for uri in uris if (form := _format_of(uri))}
    told = [form for form in found.values() if form is not _TEXT] or list(found.values())
    if not told:
        return f"{plain}; there is {_some(uris)}" if uris else plain
    form = Counter(told).most_common(1)[0][0]
    return f"{plain}; there are {form.name}: {_some([uri for uri in found if found[uri] is form])}; {form.remedy}"


def require_plain_files(shards: Iterable[str], below: Iterable[str]) -> None:
    """Raise ValueError if one of `shards` is part of a table of which only a log says which files count.

    The folder of such a table keeps replaced and removed rows in further Parquet files, which would be read as well.

    Args:
        shards: URIs of what would be read.
        below: of all that was listed.
    """
    tables = {uri[: place.start()] + "/": (form, uri) for uri in below for form, place in _part_of_table(uri)}
    for shard in shards if tables else ():
        for folder, (form, uri) in tables.items():
            if shard.startswith(folder):
                raise ValueError(
                    f"{folder}: is {form.name} ({uri.removeprefix(folder)}), in which not every file counts; write its "
                    "rows as plain Parquet files, or name the files that count in a list"
                )


def _part_of_table(uri: str) -> list[tuple[_Format, re.Match[str]]]:
    return [(table, place) for table in _TABLES if (place := table.path.search(uri))]


def _format_of(uri: str) -> _Format | None:
    path = uri.lower()
    return next((form for form in _FORMATS if form.path.search(path)), None)


def _some(uris: Sequence[str]) -> str:
    others = f" and {len(uris) - 1:,} more" if len(uris) > 1 else ""
    return min(uris).rpartition("/")[2] + others
