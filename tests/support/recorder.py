"""Guidance that keeps what it is shown, for tests of stages."""

from dreamlab.core.render import Render
from dreamlab.guidance.base import GuidanceOutput


class Recorder:
    """Keeps the renders; its loss darkens them."""

    needs_normals = False

    def __init__(self, *, needs_albedo: bool = False) -> None:
        self.needs_albedo = needs_albedo
        self.renders: list[Render] = []

    def __call__(
        self, render: Render, cameras: object, progress: float, generator: object
    ) -> GuidanceOutput:
        self.renders.append(render)
        return GuidanceOutput(render.rgb.square().mean())
