"""Steps that jobs share: options -> plan -> checks -> filled cells -> report.

Owns     how options become a plan, checks before Ray starts, filling, maintenance, reports, following a training.
In       a job's config.
Out      a `PlannedRun`, committed cells, report files, MLflow runs, exit codes.
Never    start Ray or load a model before everything that can be checked without them is checked.
"""
