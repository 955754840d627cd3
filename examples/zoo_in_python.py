"""Use the zoo from Python: list models, read a card, load verified weights, classify one photograph.

    python examples/zoo_in_python.py

The photograph ships with Matplotlib. It is decoded, resized, cropped and normalised as in an evaluation, so the
probabilities are those that `jobs.evaluate` would store for it.
"""

import sys
from pathlib import Path

import matplotlib
import torch

import zoo
from pipelines.models.engine import normalise
from pipelines.pixels import exact_decode
from zoo import imagenet

PHOTOGRAPH = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")


def main(photograph: str | Path = PHOTOGRAPH) -> None:
    """Print the models, one card, and the five most probable classes of `photograph`."""
    print(f"{len(zoo.names())} models, such as {', '.join(zoo.names('resnest*')[:3])}")

    card = zoo.card("efficientnet_lite0")
    print(f"{card.name}: {card.params:,} parameters, claims {card.claims[0].value} % top-1 on {card.claims[0].dataset}")

    model = zoo.create("efficientnet_lite0", weights="card")  # in evaluation mode; the SHA-256 of the file is verified

    preprocessing = card.preprocessing
    decoded = exact_decode.decode(Path(photograph).read_bytes(), [preprocessing.geometry])
    if isinstance(decoded, str):  # the reason why the image cannot be decoded
        raise SystemExit(f"{photograph}: {decoded}")
    pixels_BHWC = torch.from_numpy(decoded[0].copy())[None]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    with torch.inference_mode():
        probs = model(normalise(pixels_BHWC, mean, std, is_bgr=preprocessing.channels == "BGR")).softmax(dim=1)[0]

    names = imagenet.class_names()
    for prob, index in zip(*probs.topk(5), strict=True):
        print(f"{100 * prob:6.2f} %  {names[index]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
