"""The first run: `python -m jobs.quickstart`.

Owns     which photographs are used, the split of the digits, the commands and their order.
In       images in installed packages, or a folder of your own.
Out      the files that the other jobs leave, a table of predictions, and where to find everything.
Never    do with a model or a store what the printed commands do not do.
"""
