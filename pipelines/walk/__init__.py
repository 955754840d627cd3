"""The walk: missing cells are filled, in rounds of passes over shards on Ray Data.

Owns     the order of the steps (read, decode, score, gather, publish), and how many rounds are worth trying.
In       a plan; the device, and how many GPUs may be requested.
Out      committed cells, and reasons for those still missing; progress, costs, metrics for Prometheus.
Never    keep results in memory (reports read committed cells only), or let a failure of one model cost another's cells.
"""
