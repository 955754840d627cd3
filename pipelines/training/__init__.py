"""Shards -> a model that learns -> a trained member of the zoo.

Owns     when checkpoints are written and by which job, and what a trained model's card states.
In       a specification: architecture, stages (recipe, dataset, order), validation set, seed.
Out      checkpoints, a curve, weights and a card in the store.
Never    let a restart, a lost node or the number of workers change a weight.

Data flows from recipe and specification through `sampling` (which samples a step sees) to learner, worker, checkpoint
and publication. Driver and workers talk through `coordinator`; workers agree through `agreement`.
"""
