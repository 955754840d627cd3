"""Architectures: one module per family, written from its paper, and a table from names to builders.

In       a name and a number of classes.
Out      an `nn.Module` on the CPU in float32: normalised images (batch, 3, height, width) -> logits (batch, classes).

The package also has the exact parameter counts and the mapping of public checkpoints' keys to the zoo's. Weights and
claims belong to `zoo.cards`. Torch is imported only when a model is built.
"""
