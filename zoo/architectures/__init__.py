"""Architectures: each family's code from its paper, and a table of which code builds which model.

Owns     the networks, their exact parameter counts, and how the keys of public checkpoints map to ours.
In       a name, a number of classes.
Out      an `nn.Module` on the CPU in float32: normalised images (batch, 3, height, width) -> logits (batch, classes).
Never    know weights or claims (cards do), or import torch before a model is built.
"""
