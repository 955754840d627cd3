"""Shards -> a model that learns -> a member of the zoo.

Owns     which samples a step sees, checkpoints, which job may write them, what a trained model's card says.
In       a specification: architecture, stages (recipe, dataset, order), validation set, seed.
Out      checkpoints, a curve, weights and a card in the store.
Never    let a restart, a lost node or the number of workers change what a step sees.
"""
