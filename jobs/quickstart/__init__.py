"""The first run: `python -m jobs.quickstart`.

It prints and runs the commands of the other jobs, and does nothing else with a model or a store. `photographs` chooses
and stages the images, `predictions` shows what was predicted, `digits` trains a student on handwritten digits, and
`commands` runs a job as its own process.
"""
