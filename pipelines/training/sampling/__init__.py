"""Which samples a step of a training sees: their order, their bytes, their pixels, their batches.

Owns     the order of samples as a function of seed and step, and the batches that every worker gets.
In       the shards of a stage with their row counts, a seed, a rank, a step to start from.
Out      batches: uint8 pixels (samples, size, size, 3) with labels; what could not be read keeps its slot.
Never    let a restart, a lost node or the number of workers change what a step sees.
"""
