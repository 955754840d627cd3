"""One model's result on one dataset: what every form of a report is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipelines.evaluation.metrics import Summary, Tally, summary
from pipelines.records import Decoder, Settings, mode_name
from zoo.cards import Card


class CellsOfModel(Protocol):
    """What a result takes from a column of cells, whether it is planned (`Column`) or stored (`StoredColumn`)."""

    @property
    def name(self) -> str:
        """`<model>-<weights8>-<plan8>`."""
        ...

    @property
    def weights(self) -> str:
        """SHA-256 of the weights."""
        ...

    @property
    def settings(self) -> Settings:
        """How the model is run."""
        ...

    @property
    def decoder(self) -> Decoder:
        """How its images are decoded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResult:
    """One model's tally on one dataset, and how it was measured.

    `param_count` is a number of parameters, `img_size` in pixels; `weights` is a SHA-256 and `plan_digest` the digest
    of the settings that the cells depend on. Of the dataset's `shards`, `committed` have a cell: where the two differ,
    the scores are of an incomplete set and every form of the report marks it. `passed_over` counts members of the
    shards that belong to no sample, by kind; `weights_steps` are what was done to find the weights in a checkpoint.
    """

    model: str
    dataset: str
    param_count: int
    img_size: int
    crop_pct: float
    interpolation: str
    weights: str
    settings: Settings
    decoder: Decoder
    plan_digest: str
    shards: int
    committed: int
    tally: Tally
    passed_over: Mapping[str, int] = field(default_factory=dict[str, int])
    weights_steps: tuple[str, ...] = ()

    @property
    def mode(self) -> str:
        """What tables show of how the model was run: `fp32 exact`."""
        return mode_name(self.settings, self.decoder)

    @property
    def complete(self) -> bool:
        """Whether every shard of the dataset is in the tally."""
        return self.committed == self.shards

    @property
    def summary(self) -> Summary:
        """The reported numbers."""
        return summary(self.tally)


def model_result(
    card: Card, column: CellsOfModel, dataset: str, *, shards: int, committed: int, tally: Tally
) -> ModelResult:
    """The result of a model from the tally of its cells.

    Args:
        card: the model's card.
        column: the column whose cells were counted.
        dataset: the name under which the result is shown.
        shards: how many the dataset has.
        committed: how many of them have a cell.
        tally: the tally of these cells.
    """
    preprocessing = card.preprocessing
    return ModelResult(
        model=card.name,
        dataset=dataset,
        param_count=card.params,
        img_size=preprocessing.size,
        crop_pct=preprocessing.crop_pct,
        interpolation=preprocessing.interpolation,
        weights=column.weights,
        settings=column.settings,
        decoder=column.decoder,
        plan_digest=column.name.rpartition("-")[2],
        shards=shards,
        committed=committed,
        tally=tally,
    )
