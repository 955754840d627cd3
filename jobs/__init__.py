"""The commands: each module here is run as `python -m jobs.NAME`, locally or by `ray job submit`.

A job parses its options (`jobs.console`), carries out steps that it shares with others (`jobs.steps`) and returns an
exit code. Jobs never import each other.
"""
