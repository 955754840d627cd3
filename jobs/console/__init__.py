"""What every job has of a command line: options, exit codes, progress, shutdown.

Owns     the rules of options and `--config`, what each exit code means, what is printed where.
In       a config dataclass and a function that runs it; signals.
Out      an exit code; lines on standard error, results on standard output.
Never    know a job's options, or end without saying how to go on.
"""
