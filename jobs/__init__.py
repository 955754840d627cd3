"""What `ray job submit` runs: one module a job, each run as `python -m jobs.NAME`."""
