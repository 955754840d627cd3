"""Shards in a store -> samples.

Owns     what a shard, a dataset and an evaluation set are; strict readers of tar and Parquet.
In       folders, globs, brace patterns and lists of shards; manifests.
Out      `Dataset`, `Shard`, and chunks of samples in shard order, with errors in their rows.
Never    decode an image, drop a row, or treat a shard that cannot be read as a shorter one.
"""
