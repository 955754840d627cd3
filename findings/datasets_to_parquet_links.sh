#!/usr/bin/env bash
# datasets 5.2.0 (the version pinned below): Dataset.to_parquet of images that lie in files.
# Behaviour. A folder of images, loaded with load_dataset("imagefolder") or given as paths, is written as
# struct<bytes, path> with null bytes and the absolute path on this machine; only images that were given as bytes are in
# the file. No message says so.
# We expected the pictures in the file, as they are in the Parquet files of the hub, whose layout this is.
# Output seen:
#   given as bytes: 75 bytes, path None
#   imagefolder: bytes None, an absolute path: True
# Why it matters. The file looks like a shard and is one on the machine that wrote it, where datasets opens the path.
# Copied to a bucket it holds no picture: an evaluation elsewhere finds a null in every row, after the upload.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q datasets==5.2.0 pillow==13.0.0
cd "$folder"
export HF_HOME="$folder/home" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import os
import sys
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, load_dataset
from PIL import Image as Picture
encoded = io.BytesIO()
Picture.new("RGB", (8, 8), (200, 0, 0)).save(encoded, "PNG")
os.makedirs("images/train/cat")
with open("images/train/cat/0001.png", "wb") as file:
    file.write(encoded.getvalue())
rows = {"image": [{"bytes": encoded.getvalue(), "path": None}]}
Dataset.from_dict(rows, features=Features({"image": Image()})).to_parquet("given.parquet")
load_dataset("imagefolder", data_dir="images", split="train").to_parquet("folder.parquet")
given, found = (pq.read_table(f"{name}.parquet")["image"][0].as_py() for name in ("given", "folder"))
print("given as bytes:", len(given["bytes"]), "bytes, path", given["path"])
print(f"imagefolder: bytes {found['bytes']}, an absolute path: {os.path.isabs(found['path'])}")
sys.exit(not (given["bytes"] and found["bytes"] is None and os.path.isabs(found["path"])))
PYTHON
