"""What a plan holds and costs, in lines on standard error before work begins."""

from collections.abc import Sequence

from jobs.console.progress import count, say
from jobs.steps.planning import PlannedRun
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan
from pipelines.walk import estimate
from pipelines.walk.options import RunOptions


def say_plan(planned: PlannedRun, options: RunOptions) -> None:
    """Print the dataset, the missing cells of each model, the expected cost and the store."""
    plan, dataset = planned.plan, planned.plan.dataset
    rows = [shard.limit or shard.rows for shard in dataset.shards]
    images = count(sum(filter(None, rows)), "image") if all(rows) else "images not counted yet"
    size = sum(shard.size for shard in dataset.shards) / 1e6
    say(f"dataset  {dataset.name}-{dataset.digest}: {count(len(rows), 'shard')}, {images}, {size:,.1f} MB")
    for column, missing in zip(plan.columns, plan.missing, strict=True):
        done = count(len(rows) - len(missing), "cell")
        settings = f"{column.settings}, {column.decoder} decoder"
        say(f"model    {column.name}: {done} committed, {len(missing)} to do ({settings})")
    say_steps(planned.models.cards[0].name, planned.models.weights_steps)
    if plan.pending:
        say(f"cost     {cost_line(estimate.of_plan(plan), options.device, options.gpus)}")
    say(f"store    {storage.absolute(planned.store)}")


def say_steps(model: str, steps: Sequence[str]) -> None:
    """Print what was done to find the model's weights in a checkpoint."""
    for step in steps:
        say(f"weights  {model}: {step}")


def cost_line(work: estimate.Estimate, device: str, gpus: int) -> str:
    """The time and price of `work` on `device`; on both kinds of device if that is `auto` and no GPU is asked for."""
    device = "cuda" if gpus else device
    decoding = f"{_duration(work.decode_seconds)} of CPU time"
    alternatives = [
        f"{_duration(seconds)} of {name} time for the models and {decoding} to decode, ${work.usd(kind):,.2f}"
        for kind, name, seconds in (("cuda", "GPU", work.gpu_seconds), ("cpu", "CPU", work.cpu_seconds))
        if device in {"auto", kind} and seconds is not None
    ]
    cost = f"about {'; or '.join(alternatives)}" if alternatives else "not known for this precision on a CPU"
    return f"{cost} (estimated from pipelines/walk/prices.yaml)"


def column_label(column: Column, plan: Plan) -> str:
    """The model's name, with its mode if `plan` runs the model in more than one."""
    several = [other.model for other in plan.columns].count(column.model) > 1
    return f"{column.model} ({column.mode})" if several else column.model


def _duration(seconds: float) -> str:
    if seconds < 60:
        return count(round(seconds), "second")
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:,.1f} minutes"
