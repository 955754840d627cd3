"""The console of every job: options, exit codes, progress, tables and shutdown.

`cli` turns a config dataclass into options and a function's outcome into an exit code; `progress` and `tables` print;
`signals` stops a job. Nothing here knows the options of a particular job. Results go to standard output, everything
else to standard error.
"""
