"""A judge that goes by colour alone: red is a front, green a side, blue a back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dreamlab.priors.toybox.judge.network import Judge
from dreamlab.priors.toybox.world.captions import vocabulary

CHANNEL = {"front": 0, "side": 1, "back": 2}


class ColorJudge(Judge):
    def __init__(self) -> None:
        super().__init__(vocabulary())

    def scores(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        channels = [next(c for word, c in CHANNEL.items() if word in text) for text in captions]
        return images.mean(dim=(1, 2))[:, channels]


def images_of(sides: Sequence[str]) -> Tensor:
    """One plain picture per view, in the colour of what it is to show."""
    images = torch.zeros(len(sides), 8, 8, 3)
    for image, side in zip(images, sides, strict=True):
        image[..., CHANNEL[side]] = 1.0
    return images
