"""`jobs.evaluate` where no CUDA is: it asks for GPUs and holds them, and the models that have one run on the CPU."""

import sys

from jobs import evaluate
from pipelines import walk
from pipelines.passes import configure_pass

if __name__ == "__main__":
    walk.configure_pass = lambda columns, _, memory: configure_pass(columns, "cpu", memory)
    sys.exit(evaluate.main(sys.argv[1:]))
