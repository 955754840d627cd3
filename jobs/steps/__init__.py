"""Steps that jobs share: options -> plan -> checks -> filled cells -> report.

`options` and `planning` turn a config into a `PlannedRun`; `preflight` checks what can be checked without Ray; `fill`
commits cells, `maintenance` inspects and repairs them; `report` and `provenance` show and track results. No step
starts Ray or loads a model before the checks that need neither.
"""
