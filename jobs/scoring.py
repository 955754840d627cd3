"""What a job does between a plan and committed cells: weights fetched, unfit models left out, the rest filled.

Owns that one model's trouble is told and costs no other model. Refuses to report on cells: each job does.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from jobs import filling, maintenance, planning, preflight
from jobs.planning import WalkConfig
from pipelines import storage
from pipelines.cells.column import Column
from pipelines.cells.plan import Plan, plan_cells

if TYPE_CHECKING:
    from pipelines.walk.filling import Outcome


def remove_failed(plan: Plan, unusable: dict[str, str], config: WalkConfig) -> None:
    """Remove cells that are damaged or have quarantined rows, so that they are computed again.

    Nothing is removed before it is known that it can be computed again; adds to `unusable` what cannot.
    """
    everything = tuple(range(len(plan.dataset.shards)))
    unusable |= preflight.fetch_weights(replace(plan, missing=(everything,) * len(plan.columns)), bool(unusable))
    usable = [column for column in plan.columns if _is_usable(column, unusable)]
    if failed := maintenance.failed(config.store, plan_cells(config.store, plan.dataset, usable)):
        filling.require_device(config.device, config.gpus)
        storage.probe(config.store)
        storage.remove(preflight.with_readable_shards(config.store, plan.dataset, usable, failed))


def fill(plan: Plan, unusable: dict[str, str], config: WalkConfig, *, labelled: bool = True) -> "Outcome | None":
    """Fill the cells of the models whose weights are there, if any; adds to `unusable` what comes to light.

    Where the data is not `labelled`, or by others than the models, its labels need not be the models' classes.
    """
    unusable |= preflight.fetch_weights(plan, others=bool(unusable))
    part = plan_cells(config.store, plan.dataset, [column for column in plan.columns if _is_usable(column, unusable)])
    if not part.pending:
        return None
    if told := preflight.unfit(part) if labelled else {}:
        unusable |= {planning.label(column, plan): told[column.name] for column in part.columns if column.name in told}
        part = plan_cells(config.store, plan.dataset, [column for column in part.columns if column.name not in told])
    outcome = filling.fill(part, config)
    unusable |= {planning.label(part.columns[i], part): reason for i, reason in outcome.unusable.items()}
    return outcome


def _is_usable(column: Column, unusable: dict[str, str]) -> bool:
    return not any(member.card.name in unusable for member in column.members)
