"""The origin of training data: the selection that it was made from, and its teacher.

    OUTPUT/materialized.json    beside the shards that `materialize` wrote

This mark is written before the shards, so that a folder never holds two selections. Details of the teacher and the
selection are in the selection's own files and in MLflow.
"""

import json
from dataclasses import dataclass

from pipelines import storage
from pipelines.records import Dataset
from pipelines.selection.facts import SelectionFacts

MARK = "materialized.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A selection: its identity, its teacher's name, and the name of the teacher's column of cells."""

    selection: str
    teacher: str
    column: str


def mark_of(facts: SelectionFacts) -> dict[str, object]:
    """The content of the mark for a selection."""
    return {"selection": facts.identity, "teacher": facts.teacher.model, "column": facts.teacher.column}


def origin(dataset: Dataset) -> Origin | None:
    """The selection that a dataset was made from; None where its folder has no mark.

    Raises:
        ValueError: if the mark is damaged.
    """
    place = storage.join(dataset.shards[0].uri.rpartition("/")[0], MARK)
    try:
        mark = json.loads(storage.read(place))
        return Origin(selection=mark["selection"], teacher=mark["teacher"], column=mark["column"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{place} is damaged or of another release: {error!r}") from error
