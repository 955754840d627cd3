"""A card -> a model on a device, run as its settings say.

Owns     weights mirrored and locked in a store, members trained here, precision and layout, ranking, tuning.
In       cards, files of weights, settings, batches of pixels.
Out      classes and probabilities per image; the fastest settings measured.
Never    score with weights of another digest than the requested one, or with batches of varying shape.
"""
