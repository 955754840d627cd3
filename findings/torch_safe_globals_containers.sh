#!/usr/bin/env bash
# torch 2.13.0: allow-listing a container type for torch.load(weights_only=True), as its own error asks, does not load it.
# Behaviour. For a checkpoint that holds a deque or a defaultdict beside its weights, torch.load names the types to give
# to safe_globals, one after the other. With all of them given it fails still, now with an internal error that asks to
# file an issue: its unpickler fills only list, dict, set, OrderedDict and Counter, whatever is allow-listed. An empty
# deque loads, and so does a SimpleNamespace, so whether a type can be allow-listed depends on what the object holds.
# Output seen:
#   deque, nothing allowed: Unsupported global: GLOBAL collections.deque
#   deque, deque allowed: Can only extend lists, but got <class 'collections.deque'>
#   empty deque, deque allowed: loads
#   defaultdict, defaultdict and int allowed: Can only SETITEM for dict, collections.OrderedDict, collections.Counter
#   namespace, SimpleNamespace allowed: loads
# Why it matters. Training scripts save smoothed losses (a deque) and statistics by name (a defaultdict) beside the
# weights. An evaluation that reads such files with weights_only cannot promise that naming the types is enough: it has
# to tell these files from damaged ones, and to ask for the weights alone to be saved again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import collections
import io
import re
import sys
import types
import torch


def loaded(value, *allowed):
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.ones(2)}, "beside": value}, file)
    file.seek(0)
    try:
        with torch.serialization.safe_globals(list(allowed)):
            torch.load(file, weights_only=True)
        return "loads"
    except Exception as error:
        return re.search(r"Unsupported global: GLOBAL \S+|Can only [^\n]*|$", str(error))[0]


counts = collections.defaultdict(int, a=1)
seen = {
    "deque, nothing allowed": loaded(collections.deque([1.0, 2.0])),
    "deque, deque allowed": loaded(collections.deque([1.0, 2.0]), collections.deque),
    "empty deque, deque allowed": loaded(collections.deque(), collections.deque),
    "defaultdict, defaultdict and int allowed": loaded(counts, collections.defaultdict, int),
    "namespace, SimpleNamespace allowed": loaded(types.SimpleNamespace(lr=0.1), types.SimpleNamespace),
}
for case, outcome in seen.items():
    print(f"{case}: {outcome}")
beginnings = ("Unsupported global: GLOBAL collections.deque", "Can only", "loads", "Can only", "loads")
sys.exit(not all(map(str.startswith, seen.values(), beginnings)))
PYTHON
