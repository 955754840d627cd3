"""Where training data comes from: which selection it is, and whose.

    OUTPUT/materialized.json    beside the shards that `materialize` wrote

Owns that mark. It is written before the shards, so that a folder never holds two selections. Refuses to follow it
further: what teacher and selection were like is in the selection's own files and in MLflow.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines import storage
from pipelines.records import Dataset

MARK = "materialized.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A selection by its identity, its teacher's name and the name of the teacher's column of cells."""

    selection: str
    teacher: str
    column: str


def marked(about: Mapping) -> dict[str, object]:
    """What the mark says of a selection, from what the selection's JSON says."""
    return {"selection": about["identity"], "teacher": about["teacher"]["model"], "column": about["teacher"]["column"]}


def origin(dataset: Dataset) -> Origin | None:
    """The selection that a dataset is; None where it is none, or the folder does not say.

    Raises:
        ValueError: if the mark is damaged.
    """
    place = storage.join(dataset.shards[0].uri.rpartition("/")[0], MARK)
    try:
        said = json.loads(storage.read(place))
        return Origin(selection=said["selection"], teacher=said["teacher"], column=said["column"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{place} is damaged or of another release: {error!r}") from error
