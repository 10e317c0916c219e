"""What all renderers share: what they draw, and what is behind it."""

from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.protocols import shown_of
from dreamlab.core.regions import Regions
from dreamlab.renderers.background import Background, BackgroundConfig

Scene = TypeVar("Scene")


class RendererBase(nn.Module, Generic[Scene]):
    """Owns the background, not the scene, whose parameters do not count as the renderer's."""

    def __init__(
        self, scene: Scene, background: BackgroundConfig, generator: torch.Generator | None
    ) -> None:
        """Build the background; `generator` (CPU) draws the weights of a learned one."""
        super().__init__()
        self._scene = (scene,)  # in a tuple, so that it is not registered
        self.background = Background(background, generator)

    @property
    def scene(self) -> Scene:
        """What is drawn."""
        return self._scene[0]

    def shown(self, regions: Regions | None) -> Scene:
        """Return what is drawn of the scene: where it knows its objects, those that are shown."""
        return shown_of(self.scene, regions)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the group "background" if the background is learned."""
        parameters = list(self.background.parameters())
        return {"background": parameters} if parameters else {}

    def update(self, step: int, progress: float, generator: torch.Generator) -> None:
        """Do nothing; renderers that keep something between steps refresh it here."""

    def behind(
        self,
        directions: Float[Tensor, "batch height width 3"],
        given: Float[Tensor, "*shape 3"] | None,
        *,
        generator: torch.Generator | None,
        training: bool,
    ) -> Float[Tensor, "batch height width 3"]:
        """Return the colours behind the object: those given, or the background's.

        Random numbers are drawn in both cases, so that what follows draws the same ones.

        Raises:
            ValueError: there is no generator in training.
        """
        if training and generator is None:
            raise ValueError("rendering for training draws random numbers: give a generator")
        own = self.background(directions, generator=generator, training=training)
        return own if given is None else given.to(directions).expand_as(directions)
