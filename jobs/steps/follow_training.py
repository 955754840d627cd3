"""Follows a training: shows its progress, logs its curve to MLflow, and publishes it at its end.

The registered model carries the lineage: the selection and the teacher it was trained with. An unavailable MLflow never
stops a training: what cannot be logged now is logged with the next validation, or by the same command later.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from jobs.console import cli
from jobs.console.progress import Meter, say
from jobs.steps import provenance
from pipelines import storage
from pipelines.models import members
from pipelines.selection import lineage
from pipelines.storage.layout import Folder
from pipelines.training.progress import CurvePoint, TrainingProgress
from pipelines.training.specification import Training

if TYPE_CHECKING:
    from pipelines.evaluation.tracking import Record
    from pipelines.models.mirror import Lock
    from pipelines.training.checkpoint import CheckpointContent


@dataclass(frozen=True, slots=True)
class _PendingPoint:
    """A point of the curve, and what else MLflow gets with it."""

    point: CurvePoint
    speed: Mapping[str, float]


class Follower:
    """Follows one training of `store`, by its identity."""

    def __init__(self, store: str, tracking_uri: str | None, training: Training, identity: str) -> None:
        self._store, self._tracking_uri = store, tracking_uri
        self._training, self._identity = training, identity
        self._meter: Meter | None = None
        self._points: list[_PendingPoint] = []
        self._is_away = False

    def final_content(self) -> "CheckpointContent | None":
        """The content of the last checkpoint; None if the training is not at its end."""
        from pipelines.training import publication

        self._training = publication.with_rows(self._training)
        return publication.final_content(self._training)

    @contextmanager
    def following(self, training: Training) -> Iterator[None]:
        """A context in which `show` may be called with progress of `training`, whose rows are known now."""
        self._training = training
        with Meter("images", sum(stage.steps * stage.recipe.batch for stage in training.stages)) as self._meter:
            yield

    def show(self, progress: TrainingProgress) -> None:
        """Show progress; after a validation, log all points since the last one."""
        stages, meter, point = self._training.stages, self._meter, progress.point
        assert meter
        stage = stages[point.stage]
        before = sum(each.steps * each.recipe.batch for each in stages[: point.stage])
        bad = f" · {progress.bad:,} bad" if progress.bad else ""
        note = f"{stage.name} · loss {point.loss:.3f} · lr {point.lr:.3g} · data {progress.waiting:.0%}{bad}"
        meter.update(before + point.step * stage.recipe.batch, note=note)
        speed = {"images_per_second": progress.images_per_second, "data_share": progress.waiting}
        if self._tracking_uri != "none":
            self._points.append(_PendingPoint(point, speed))
        if point.metrics:
            accuracies = f"top-1 {point.metrics['top1']:.2f}, top-5 {point.metrics['top5']:.2f}"
            say(f"validated {stage.name}, step {point.step:,} of {stage.steps:,}: {accuracies}")
            self._log_points()

    def publish(self, content: "CheckpointContent") -> None:
        """Publish the weights of a finished training's last checkpoint, and print where they are."""
        from pipelines.training import publication
        from pipelines.training.curve import curve_png

        training, store = self._training, self._store
        lock = publication.publish_member(store, training, self._identity, content)
        curve = curve_png(training.stages, content.curve, training.card.name)
        storage.replace(storage.join(training.home, "curves.png"), curve)
        last = content.curve[-1]
        validated = last.metrics or {}
        cli.stdout.print(
            f"{training.card.name}: top-1 {validated['top1']:.2f}, top-5 {validated['top5']:.2f} of "
            f"{validated['n']:,.0f} images of {last.validation}"
        )
        if last.validation != (now := f"{training.validation.name}-{training.validation.digest}"):
            say(f"note     it was validated on {last.validation}, not on {now}; jobs.evaluate scores other sets")
        say(f"weights  {storage.join(store, Folder.WEIGHTS, lock.file)}")
        say(f"card     {members.uri(store, training.card.name)}")
        say(f"curves   {storage.join(training.home, 'curves.png')}")
        files = {"curves.png": curve, "card.yaml": storage.read(members.uri(store, training.card.name))}
        self._points = [_PendingPoint(point, {}) for point in content.curve] + self._points
        self._log(lambda: self._log_end(files, validated, lock))

    def _log_points(self) -> None:
        self._log(lambda: self._log_curve({}, {}))

    def _log_end(self, files: Mapping[str, bytes], validated: Mapping[str, float], lock: "Lock") -> None:
        from pipelines.evaluation import tracking

        run, uri = self._log_curve(files, validated), self._uri
        origin = lineage.origin(self._training.stages[0].dataset)
        found = {
            "selection_run": origin and tracking.find_run(uri, origin.selection),
            "teacher_run": origin and tracking.find_run(uri, None, origin.teacher),
            "teacher": origin and origin.teacher,
            "selection": origin and origin.selection,
            "weights": storage.join(storage.absolute(self._store), Folder.WEIGHTS, lock.file),
            "weights_sha256": lock.sha256,
        }
        tags = {f"menagerie.{name}": value for name, value in found.items() if value}
        registered = self._training.card.name.removesuffix(f"-{self._identity}").replace(":", "_")
        tracking.register(uri, registered, run, tags)
        say(f"mlflow   registered as model {registered!r}; its version links the run, the teacher and the selection")

    @property
    def _uri(self) -> str:
        from pipelines.evaluation import tracking

        return self._tracking_uri or tracking.default_uri(self._store)

    def _log_curve(self, files: Mapping[str, bytes], validated: Mapping[str, float]) -> str:
        from pipelines.evaluation import tracking

        points = [tracking.Point(pending.point.step, self._values(pending)) for pending in self._points]
        run = tracking.log_curve(self._uri, self._store, self._record(files, validated), points)
        self._points = []
        return run

    def _values(self, pending: _PendingPoint) -> dict[str, float]:
        point = pending.point
        values = {"loss": point.loss, "lr": point.lr, **pending.speed, **(point.metrics or {})}
        return {f"{self._training.stages[point.stage].name}/{name}": float(value) for name, value in values.items()}

    def _record(self, files: Mapping[str, bytes], validated: Mapping[str, float]) -> "Record":
        from pipelines.evaluation.tracking import Record

        training, card = self._training, self._training.card
        params: dict[str, object] = {
            "model": card.name,
            "architecture": card.architecture,
            "classes": card.num_classes,
            "preprocessing": asdict(card.preprocessing),
            "seed": training.seed,
            "workers": training.workers,
            "precision": training.precision,
            "validation": f"{training.validation.name}-{training.validation.digest}",
        }
        for stage in training.stages:
            named = {"data": f"{stage.dataset.name}-{stage.dataset.digest}", **asdict(stage.recipe)}
            params |= {f"{stage.name}.{name}": value for name, value in named.items()}
        return Record(
            name=f"training of {card.name}",
            identity=self._identity,
            params=params | provenance.environment(),
            metrics={name: float(value) for name, value in validated.items()},
            artifacts=files,
        )

    def _log(self, call: Callable[[], object]) -> None:
        """Call a function that logs to MLflow; if MLflow is unavailable, say so once."""
        if self._tracking_uri == "none":
            return
        provenance.limit_mlflow_retries()
        from pipelines.evaluation import tracking

        try:
            call()
            self._is_away = False
        except tracking.TrackingError as error:
            if not self._is_away:
                say(f"warning: not logged to MLflow: {error}; the training continues, the same command logs it later")
            self._is_away = True
