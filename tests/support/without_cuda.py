"""`jobs.evaluate` where no CUDA is: it asks for GPUs and holds them, and the models that have one run on the CPU."""

import sys

from jobs import evaluate
from pipelines.walk import dataflow
from pipelines.walk.passes import configure_pass

if __name__ == "__main__":
    dataflow.configure_pass = lambda columns, _, memory: configure_pass(columns, "cpu", memory)
    sys.exit(evaluate.main(sys.argv[1:]))
