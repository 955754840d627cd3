"""A store -> its leaderboard, as data, files and a page; two sides compared image by image.

Owns     which sets a store shows, the order of rows, which columns are compared.
In       what a store holds (committed cells), cards, what MLflow has logged.
Out      tables, CSV, JSON, model-index, one HTML page; differences of two sides.
Never    touch data or models, or show a number without the cells that it comes from.
"""
