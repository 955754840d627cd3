"""Ray: joining a cluster, sharing it out, running many tasks.

Owns     the shares of CPUs and GPUs that let every step run, retries, and notes of finished tasks.
In       the address and token of a cluster; functions to run on it.
Out      results, in the order in which tasks finish; errors that name what is missing.
Never    start or stop machines (Ray's autoscaler does), or retry without a bound.
"""
