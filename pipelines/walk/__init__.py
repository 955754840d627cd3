"""The walk: missing cells are filled, by rounds of passes over shards on Ray Data.

Owns     the order of the steps (read, decode, score, gather, publish) and that rounds go on while there is hope.
In       a plan, a device, how many GPUs may be asked for.
Out      committed cells; for those still missing the reasons; progress, costs, figures for Prometheus.
Never    keep a result in memory (reports read committed cells only), or let one model's fault cost another's cells.
"""
