#!/usr/bin/env bash
# pyarrow 25.0.1 (the version pinned below): what read_dictionary does to batches of a Parquet file.
# Behaviour. Read with read_dictionary, each batch of iter_batches holds the dictionary of its whole row group, so
#   1. RecordBatch.nbytes, and the bytes of the batch in Arrow's IPC format, count a row group's images once per batch;
#   2. a column struct<bytes, path> (Hugging Face's Image) cannot be read by iter_batches where a batch spans two row
#      groups, though read_row_group reads the same column of the same file.
# We expected a slice: without read_dictionary the batches of a file add up to the size of its data.
# Output seen:
#   plain batches: nbytes 1.00 x, IPC 1.00 x the images
#   read_dictionary: nbytes 10.00 x, IPC 10.00 x the images
#   struct, read_row_group: 250 rows
#   struct, iter_batches: ArrowNotImplementedError
# Why it matters. read_dictionary bounds the memory of files in which many rows share one large value. A pipeline that
# sizes blocks by nbytes, or sends batches to other processes, then counts, and copies, a row group's images once for
# each of its batches; and the layout of Hugging Face's image datasets fails at the end of the first row group.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyarrow==25.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import os
import sys
import pyarrow as pa
import pyarrow.parquet as pq
images = [os.urandom(20_000) for _ in range(1000)]
size = sum(map(len, images))
rows = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
pq.write_table(pa.table({"image": pa.array(images, pa.binary())}), "flat.parquet", row_group_size=250)
nested = pa.array([{"bytes": image, "path": f"{n}.jpg"} for n, image in enumerate(images)], rows)
pq.write_table(pa.table({"image": nested}), "struct.parquet", row_group_size=250)


def sent(batch):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return len(sink.getvalue())


def times(**options):
    batches = list(pq.ParquetFile("flat.parquet", **options).iter_batches(batch_size=25))
    return sum(batch.nbytes for batch in batches) / size, sum(map(sent, batches)) / size


plain, dictionary = times(), times(read_dictionary=["image"])
print("plain batches: nbytes %.2f x, IPC %.2f x the images" % plain)
print("read_dictionary: nbytes %.2f x, IPC %.2f x the images" % dictionary)
file = pq.ParquetFile("struct.parquet", read_dictionary=["image.bytes"])
print("struct, read_row_group:", file.read_row_group(0).num_rows, "rows")
try:
    read = [batch.num_rows for batch in file.iter_batches(batch_size=32)]
    print("struct, iter_batches:", sum(read), "rows")
    sys.exit(1)
except pa.ArrowNotImplementedError as error:
    print("struct, iter_batches:", type(error).__name__)
sys.exit(not (max(plain) < 1.1 and min(dictionary) > 4))
PYTHON
