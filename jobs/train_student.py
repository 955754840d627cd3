r"""Trains a model on shards: a student on a selection and then on labels, or a teacher or baseline on labels alone.

    python -m jobs.train_student --model resnest50d --pretrain s3://bucket/students/16k --finetune s3://bucket/train \
        --val s3://bucket/val --store s3://bucket/out
    python -m jobs.train_student --model resnest50d --pretrain s3://bucket/train --pre.epochs 90 \
        --val s3://bucket/val --store s3://bucket/out --name teacher

The recipe is that of Yalniz et al. 2019; `--pre.OPTION` and `--fine.OPTION` change it for one stage. The same command
again resumes from the last checkpoint with the batch that comes next; a finished training is only published again.
The result is a member of the zoo: weights in STORE/weights and a card in STORE/zoo, so that `--models NAME` finds it;
its curve is in STORE/training/NAME and in MLflow. Exit codes: 0 done, 2 bad arguments or bad data, 3 a store is
unavailable or Ray Train gave up, 130 and 143 stopped by Ctrl-C and SIGTERM, after a checkpoint.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.console import cli
from jobs.console.progress import Meter, count, say
from jobs.steps import cluster, options, training_options, training_plan
from jobs.steps.follow_training import Follower
from pipelines import storage
from pipelines.models.precision import require_precision
from pipelines.training.specification import Stage, Training


@dataclass(frozen=True, kw_only=True)
class TrainStudentConfig(training_options.TrainingConfig):
    """Train a model in one or two stages, and make it a member of the store's zoo.

    The same command again resumes from the last checkpoint. Exit codes: 0 done, 2 bad arguments or bad data, 3 a store
    is unavailable or Ray Train gave up, 130 and 143 stopped by Ctrl-C and SIGTERM, after a checkpoint.
    """

    dry_run: bool = False
    """Print what would be trained and its cost, then stop."""
    tracking_uri: str | None = None
    """MLflow server; `none` for no tracking.
    The default is the file mlflow.db in the store, or in the working directory if the store is s3://."""


def run(config: TrainStudentConfig) -> int:
    """Train, or resume, and publish.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: if options or data cannot be used, or the loss is NaN or infinite.
        FileNotFoundError: if data does not exist.
    """
    training_options.check(config)
    planned = training_plan.plan_training(config)
    cli.stdout.print(training_plan.stages_table(planned.training))
    training_plan.say_cost(planned.training)
    if config.dry_run:
        return cli.DONE
    options.require_writable_folder(config.store)
    say(f"probed   {storage.probe(config.store)}")
    follower = Follower(config.store, config.tracking_uri, planned.training, planned.identity)
    if (content := follower.final_content()) is None:
        _train(planned.training, follower)
        content = follower.final_content()
        if content is None:
            raise ValueError(f"--store {config.store}: the training's last checkpoint is missing or damaged")
    follower.publish(content)
    return cli.DONE


def _train(training: Training, follower: Follower) -> None:
    # Ray and torch take seconds to load; --help and a finished training need neither.
    from pipelines.training import driver

    device = cluster.require_device(training.device, training.gpus, {"menagerie_run": training.home})
    require_precision(training.precision, device)
    training = replace(training, device=device, stages=_stages_with_rows(training))
    with follower.following(training):
        driver.train(training, follower.show, say)


def _stages_with_rows(training: Training) -> tuple[Stage, ...]:
    """The stages with the row counts of all shards; shards without a manifest are read to count theirs."""
    from pipelines.training import row_counts

    unknown = sum(not rows for stage in training.stages for rows in stage.rows)
    if not unknown:
        for stage in training.stages:
            row_counts.require_samples(stage, stage.rows)
        return training.stages
    say(f"counting the samples of {count(unknown, 'shard')} without a manifest, once")
    with Meter("shards", unknown) as meter:
        return row_counts.count_rows(training, meter.update)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job on the command line `argv`."""
    return cli.run_job(TrainStudentConfig, run, argv)


if __name__ == "__main__":
    sys.exit(main())
