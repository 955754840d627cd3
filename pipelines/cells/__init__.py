"""The table of predictions: what a cell is, which are committed, whether they are sound.

Owns     a cell's path (its identity), bytes and seal; plans; the record of each run; audits of what is committed.
In       columns (a model with its settings), datasets, rows of scores.
Out      committed cells, verified; the cells that a plan lacks; what a store holds.
Never    change a committed cell, or hand out one whose seal is broken.
"""
