"""Committed cells -> numbers, verdicts, report files, MLflow records.

Owns     exact counts that add up in any order, the rules of verdicts, what a report holds.
In       committed cells of a column; an evaluation set; a card's claims.
Out      `ModelResult`, verdicts, files by name, records for MLflow.
Never    read a running job's memory, judge a claim on an incomplete set, or need MLflow for a result.
"""
