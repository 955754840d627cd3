"""img2dataset from a server of its own, a folder each output format: `python img2dataset_shards.py FOLDER`.

Of two shards of eight pictures the server has only those of the first.
"""

import csv
import functools
import http.server
import sys
import threading
from pathlib import Path

from img2dataset import download
from pictures import as_files, eight

FORMATS = ("webdataset", "files", "parquet")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def write_list(path: Path, port: int) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["url", "caption", "label"])
        for folder in ("here", "gone"):
            for one in eight():
                rows.writerow([f"http://127.0.0.1:{port}/{folder}/{one.key}.jpg", "a cat", one.label])


def main(folder: Path) -> None:
    as_files(folder / "served" / "here")
    handler = functools.partial(Quiet, directory=folder / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        write_list(folder / "urls.csv", server.server_address[1])
        for name in FORMATS:
            download(
                url_list=str(folder / "urls.csv"),
                input_format="csv",
                caption_col="caption",
                save_additional_columns=["label"],
                output_folder=str(folder / name),
                output_format=name,
                number_sample_per_shard=8,
                processes_count=1,
                thread_count=2,
                resize_mode="no",
                disable_all_reencoding=True,
            )
        server.shutdown()


if __name__ == "__main__":  # it starts processes that import this file
    main(Path(sys.argv[1]))
