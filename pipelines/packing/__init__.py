"""Images -> shards.

Owns     the choice of samples and their labels; the same input always makes the same bytes.
In       folders and archives of images, lists of URIs; labels from folders and tables, as people have them.
Out      WebDataset tars or Parquet, with a manifest (size, rows, SHA-256 of each shard) written last.
Never    guess a label, re-encode an image, write over a shard that a note or manifest names, leave out an image without
         naming it.
"""
