"""The first run: `python -m jobs.quickstart`.

Owns     the photographs, the split of the digits, the commands in their order.
In       pictures in installed packages, or a folder of your own.
Out      the same files that the real jobs leave, and where to look at them.
Never    do anything that the printed commands do not.
"""
