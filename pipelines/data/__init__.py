"""Shards in a store -> samples.

Owns     what is a shard, a dataset and an evaluation set; strict readers of tar and Parquet.
In       folders, globs, brace patterns and lists of shards; manifests.
Out      `Dataset`, `Shard`, and chunks of samples in shard order, errors in their rows.
Never    decode an image, drop a row, or take a shard that cannot be read for a shorter one.
"""
