"""Parquet by Polars and DuckDB, a folder each variant: `python tables.py FOLDER`."""

import sys
from pathlib import Path

import duckdb
import polars
from pictures import eight


def main(folder: Path) -> None:
    columns = {
        "key": [one.key for one in eight()],
        "image": [one.data for one in eight()],
        "label": [one.label for one in eight()],
    }
    frame = polars.DataFrame(columns)
    lists = frame.with_columns(
        image=polars.Series([list(one.data) for one in eight()], dtype=polars.List(polars.UInt8))
    )
    categories = frame.with_columns(label=polars.col("label").cast(polars.String).cast(polars.Categorical))
    for name, some in {"polars": frame, "polars_list": lists, "polars_categories": categories}.items():
        (folder / name).mkdir(parents=True)
        some.write_parquet(folder / name / "a.parquet", use_pyarrow=False)
    pictures = frame.to_arrow()
    base = duckdb.connect()
    base.register("pictures", pictures)
    (folder / "duckdb").mkdir()
    base.execute(f"COPY pictures TO '{folder}/duckdb/a.parquet' (FORMAT parquet)")
    base.execute(f"COPY pictures TO '{folder}/duckdb_label' (FORMAT parquet, PARTITION_BY (label))")
    structs = "SELECT {'bytes': image, 'path': key || '.jpg'} AS image, label::UBIGINT AS label FROM pictures"
    (folder / "duckdb_struct").mkdir()
    base.execute(f"COPY ({structs}) TO '{folder}/duckdb_struct/a.parquet' (FORMAT parquet, COMPRESSION zstd)")


main(Path(sys.argv[1]))
