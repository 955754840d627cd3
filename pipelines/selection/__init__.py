"""For each class the K images of a pool that a teacher scored highest -> shards to train on.

Owns     the exact order (score, then hash, then place), files of a selection, the shards made of it.
In       committed cells of a teacher on a pool; K, floors, exclusions.
Out      the selection with its summary and figures; shards with class, rank and score beside each image.
Never    depend on the order, number or restarts of workers, or hold more than classes x K rows.
"""
