#!/usr/bin/env bash
# webdataset 0.2.111 (the version pinned below, on Python's tarfile): tars that GNU tar wrote with --listed-incremental.
# Behaviour. GNU tar's incremental format keeps times of access and change in the header, in the bytes where POSIX has
# the folder of a long name. tarfile takes them for a folder, so that the name of every member begins with an octal
# time. Members of one sample have different times, and webdataset, which groups by the name, tears samples apart.
# We expected the names that GNU tar itself lists: the header says by its magic that it is GNU's.
# Output seen (the digits of the key are a time):
#   GNU tar lists: 000.cls 000.jpg 001.cls 001.jpg
#   webdataset: 4 samples, none with both jpg and cls
#   first key: 15303216445/000
# Why it matters. Backups and nightly uploads of shards are made with --listed-incremental. Read so, an evaluation finds
# twice as many samples as there are, half of them without a picture and the others without a label; a grouping by path
# that ignores folders would hide it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q webdataset==0.2.111
cd "$folder"
mkdir pictures
for number in 000 001; do
    printf 'a picture' > pictures/$number.jpg
    sleep 1.1 # so that the members of a sample have different times, as files of a real folder do
    printf '7' > pictures/$number.cls
done
(cd pictures && tar --create --file=../shard.tar --listed-incremental=../state 000.cls 000.jpg 001.cls 001.jpg)
echo "GNU tar lists: $(tar --list --file=shard.tar | tr '\n' ' ')"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import webdataset
samples = list(webdataset.WebDataset("shard.tar", shardshuffle=False, empty_check=False))
whole = [sample for sample in samples if {"jpg", "cls"} <= set(sample)]
print("webdataset:", len(samples), "samples,", len(whole) or "none", "with both jpg and cls")
print("first key:", samples[0]["__key__"] if samples else None)
sys.exit(not (len(samples) == 4 and not whole))
PYTHON
