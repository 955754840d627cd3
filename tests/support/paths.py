"""Where the project lies, and what tests read beside its code."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""
GOLDEN = ROOT / "tests" / "golden"
"""Reference logits and the keys of published checkpoints."""
SEEDS = ROOT / "tests" / "seeds"
"""The documents that the project was founded on, damaged ones included."""
SAMPLE = ROOT.parent / "shared" / "imagenet-sample"
"""250 real ImageNet images, which the project may not publish: tests on them skip where they are absent."""
