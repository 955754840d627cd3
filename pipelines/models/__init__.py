"""A card -> a model on a device, run as its settings say.

Owns     weights mirrored and locked in a store, precision and layout, ranking of classes, tuning.
In       cards, files of weights, settings; batches of pixels.
Out      classes and probabilities per image; the fastest settings measured.
Never    score with weights whose digest is not the one asked for, or let a model see another batch shape.
"""
