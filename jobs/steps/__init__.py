"""Steps that several jobs share: plan, fill, report, maintain, track.

Owns     how options become plans, what is checked before Ray starts, what is said on the way.
In       a job's config.
Out      plans, committed cells, report files, MLflow runs, exit codes.
Never    start Ray or load a model before everything that can be checked without is checked.
"""
