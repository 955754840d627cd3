"""The console of every job: options, exit codes, progress, tables and shutdown.

Owns     how a config dataclass becomes options and `--config`, the exit codes, what goes to which stream, signals.
In       a config dataclass and a function that runs it; SIGINT and SIGTERM.
Out      an exit code; progress on standard error, results on standard output.
Never    know the options of a particular job, or end without saying how to continue.
"""
