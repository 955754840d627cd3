"""Shards -> a model that learns -> a trained member of the zoo.

Decides  which samples a step sees, when checkpoints are written and by which job, what a trained model's card states.
In       a specification: architecture, stages (recipe, dataset, order), validation set, seed.
Out      checkpoints, a curve, weights and a card in the store.
Path     recipe, specification -> order -> samples -> batches -> loader -> learner -> worker -> checkpoint
         -> publication; driver and workers talk through `coordinator`, workers agree through `agreement`.
Never    lets a restart, a lost node or the number of workers change which samples a step sees.
"""
