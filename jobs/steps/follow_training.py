"""A training as a job follows it: progress to watch, its curve in MLflow, and at its end a member of the zoo.

Owns what is said and tracked on the way, and lineage: whose selection it learnt from. Refuses to let MLflow cost a
training: what cannot be logged now is logged with the next validation, or by the same command again.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jobs.console import cli
from jobs.console.progress import Meter, say
from jobs.steps import provenance
from pipelines import storage
from pipelines.models import members
from pipelines.selection import lineage
from pipelines.training.specification import Training, TrainingProgress, point

if TYPE_CHECKING:
    from pipelines.evaluation.tracking import Record
    from pipelines.models.mirror import Lock


class Follower:
    """Follows one training of `store`, by its identity."""

    def __init__(self, store: str, tracking_uri: str | None, training: Training, identity: str) -> None:
        self._store, self._tracking_uri = store, tracking_uri
        self._training, self._identity = training, identity
        self._meter: Meter | None = None
        self._points: list[tuple[dict[str, Any], dict[str, float]]] = []
        self._is_away = False

    def finished(self) -> dict[str, Any] | None:
        """The last checkpoint, where the training is at its end."""
        from pipelines.training import publication

        self._training = publication.with_rows(self._training)
        return publication.finished(self._training)

    @contextmanager
    def following(self, training: Training) -> Iterator[None]:
        """While this lasts, `show` may be called with progress of the training, whose rows are known now."""
        self._training = training
        with Meter("images", sum(stage.steps * stage.recipe.batch for stage in training.stages)) as self._meter:
            yield

    def show(self, news: TrainingProgress) -> None:
        """Show news; with a validation, log all since the last."""
        stages, meter = self._training.stages, self._meter
        assert meter
        stage = stages[news.stage]
        before = sum(each.steps * each.recipe.batch for each in stages[: news.stage])
        bad = f" · {news.bad:,} bad" if news.bad else ""
        note = f"{stage.name} · loss {news.loss:.3f} · lr {news.lr:.3g} · data {news.waiting:.0%}{bad}"
        meter.update(before + news.step * stage.recipe.batch, note=note)
        speed = {"images_per_second": news.images_per_second, "data_share": news.waiting}
        if self._tracking_uri != "none":
            self._points.append((point(news, ""), speed))
        if news.metrics:
            told = f"top-1 {news.metrics['top1']:.2f}, top-5 {news.metrics['top5']:.2f}"
            say(f"validated {stage.name}, step {news.step:,} of {stage.steps:,}: {told}")
            self._log_points()

    def publish(self, content: Mapping[str, Any]) -> None:
        """Publish what a finished training's last checkpoint holds, and say where it is."""
        from pipelines.training import publication
        from pipelines.training.curve import curve_png

        training, store = self._training, self._store
        lock = publication.publish_member(store, training, self._identity, content)
        picture = curve_png(training.stages, content["curve"], training.card.name)
        storage.replace(storage.join(training.home, "curves.png"), picture)
        last = content["curve"][-1]
        validated = last["metrics"]
        cli.stdout.print(
            f"{training.card.name}: top-1 {validated['top1']:.2f}, top-5 {validated['top5']:.2f} of "
            f"{validated['n']:,.0f} images of {last['validation']}"
        )
        if last["validation"] != (now := f"{training.validation.name}-{training.validation.digest}"):
            say(f"note     it was validated on {last['validation']}, not on {now}; jobs.evaluate scores other sets")
        say(f"weights  {storage.join(store, 'weights', lock.file)}")
        say(f"card     {members.uri(store, training.card.name)}")
        say(f"curves   {storage.join(training.home, 'curves.png')}")
        said = {"curves.png": picture, "card.yaml": storage.read(members.uri(store, training.card.name))}
        self._points = [(one, {}) for one in content["curve"]] + self._points
        self._log(lambda: self._log_end(said, validated, lock))

    def _log_points(self) -> None:
        self._log(lambda: self._log_curve({}, {}))

    def _log_end(self, files: Mapping[str, bytes], validated: Mapping[str, float], lock: "Lock") -> None:
        from pipelines.evaluation import tracking

        run, uri = self._log_curve(files, validated), self._uri
        origin = lineage.origin(self._training.stages[0].dataset)
        found = {
            "selection_run": origin and tracking.find(uri, origin.selection),
            "teacher_run": origin and tracking.find(uri, None, origin.teacher),
            "teacher": origin and origin.teacher,
            "selection": origin and origin.selection,
            "weights": storage.join(storage.absolute(self._store), "weights", lock.file),
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

        points = [tracking.Point(one["step"], self._values(one, speed)) for one, speed in self._points]
        run = tracking.log_curve(self._uri, self._store, self._record(files, validated), points)
        self._points = []
        return run

    def _values(self, one: Mapping[str, Any], speed: Mapping[str, float]) -> dict[str, float]:
        stage = self._training.stages[one["stage"]].name
        values = {"loss": one["loss"], "lr": one["lr"], **speed, **one.get("metrics", {})}
        return {f"{stage}/{name}": float(value) for name, value in values.items()}

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
        """Call what talks to MLflow; where that is away, say so once."""
        if self._tracking_uri == "none":
            return
        provenance.limit_mlflow_retries()
        from pipelines.evaluation import tracking

        try:
            call()
            self._is_away = False
        except tracking.TrackingError as error:
            if not self._is_away:
                say(f"warning: not logged to MLflow: {error}; the training goes on, the same command logs it later")
            self._is_away = True
