"""Architectures: one module per family, written from its paper, and a table from names to builders.

Owns     the networks, their exact parameter counts, and the mapping of public checkpoints' keys to the zoo's.
In       a name and a number of classes.
Out      an `nn.Module` on the CPU in float32: normalised images (batch, 3, height, width) -> logits (batch, classes).
Never    know weights or claims (`zoo.cards` does), or import torch before a model is built.
"""
