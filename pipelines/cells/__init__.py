"""The table of predictions: what a cell is, which cells are committed, and whether they are intact.

Owns     a cell's path (its identity), bytes and seal; plans; the record of each run; audits of what is committed.
In       columns (a model with its settings), datasets, rows of scores.
Out      committed cells, verified; the missing cells of a plan; what a store holds.
Never    change a committed cell, or return one whose seal is broken.
"""
