"""Add an architecture and a card of one's own to the zoo, within one Python process.

    python examples/own_architecture.py /tmp/mean_colour

Shows the three things a model needs: an entry in the table of architectures, a file of weights whose name ends in its
SHA-256, and a card. `zoo.create` then verifies the file and loads it in full, as for every other model.

The entry exists in this process only. Jobs run models in other processes: for these, add the entry to
zoo/architectures/table.py. Weights of one's own for an architecture that the zoo has need no code, only the card: give
it to `python -m jobs.evaluate --cards mean_colour.yaml ...`.
"""

import hashlib
import sys
from pathlib import Path

import torch
from torch import nn

import zoo
from zoo.architectures.architecture import Architecture
from zoo.architectures.table import ARCHITECTURES
from zoo.cards.reader import read_cards

CARD = """
Models:
- Name: mean_colour_rgb
  Metadata: {{ID: mean_colour, Classes: 3, Image Size: 8, Crop Pct: 1.0, Interpolation: bilinear}}
  Weights: {weights}
"""


class MeanColour(nn.Module):
    """A linear classifier of an image's mean colour: (B, 3, H, W) to logits (B, num_classes)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, num_classes)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """Classify by the mean over all pixels."""
        return self.fc(x_BCHW.mean(dim=(2, 3)))


def main(folder: str) -> None:
    """Write weights and a card to `folder`, create the model from them, classify three images."""
    # `params` counts the trainable values with 1000 classes: 1000 * (3 weights + 1 bias).
    ARCHITECTURES["mean_colour"] = Architecture(builder="own_architecture:MeanColour", params=4000, features=3)
    Path(folder).mkdir(parents=True, exist_ok=True)
    unnamed = Path(folder, "weights.pth")
    torch.save({"fc.weight": torch.eye(3), "fc.bias": torch.zeros(3)}, unnamed)
    weights = unnamed.rename(Path(folder, f"mean_colour-{hashlib.sha256(unnamed.read_bytes()).hexdigest()[:8]}.pth"))
    Path(folder, "mean_colour.yaml").write_text(CARD.format(weights=weights))

    (card,) = read_cards(Path(folder, "mean_colour.yaml").read_bytes(), "mean_colour.yaml")
    model = zoo.create(card, weights="card")
    print(f"{card.name}: {card.params} parameters, weights {weights.name} verified")
    red_green_blue = torch.eye(3).view(3, 3, 1, 1).expand(-1, -1, card.preprocessing.size, card.preprocessing.size)
    print("classes of a red, a green and a blue image:", *model(red_green_blue).argmax(dim=1).tolist())


if __name__ == "__main__":
    main(*sys.argv[1:])
