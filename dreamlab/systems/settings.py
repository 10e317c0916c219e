"""Settings of a stage: what a recipe says under `stages.<name>`."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from dreamlab.core.cameras import CameraRanges
from dreamlab.core.config import Plain
from dreamlab.core.errors import InputError
from dreamlab.core.frames import FRAME_OF
from dreamlab.core.pictures import READABLE
from dreamlab.core.schedules import Scalar
from dreamlab.guidance.controls import ControlConfig, check_controls
from dreamlab.guidance.encoder_gradient import EncoderGradient
from dreamlab.guidance.pgc import PixelGradientConfig
from dreamlab.guidance.pixel_weights import PixelWeight
from dreamlab.guidance.prompts import PromptConfig
from dreamlab.guidance.semantic import SemanticConfig
from dreamlab.ops.volume.settings import SurfaceMethod
from dreamlab.renderers.shading import ShadingConfig
from dreamlab.systems import components
from dreamlab.systems.passes import PassConfig

FLAT = "flat"
"""Renderer of pictures, which have no depth."""
PREVIOUS = "previous"
"""Names the stage before in `start_from`."""
DEFAULT_RATES: dict[str, Scalar] = {
    "table": 1e-2,
    "mlp": 3e-3,
    "background": 1e-3,
    "distance": 2e-3,
    "offset": 1e-2,
    "texture": 2e-2,
    "mean": 2e-3,
    "scale": 5e-3,
    "rotation": 5e-3,
    "opacity": 2e-2,
    "color": 1e-2,
    "pixels": 3e-2,
    "latents": 3e-2,
    "harmonics": 5e-4,
    "shape": 1e-2,
}
"""Learning rates of the parameter groups that the components of this package have."""


@dataclass(frozen=True, slots=True)
class Milestone:
    """A size of the training renders, and until when it is used."""

    until: float
    """Fraction of the stage at which the next milestone takes over; 1 for the last one."""
    size: int
    """Height and width of the renders, pixels."""

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise ValueError(f"until must be in (0, 1], got {self.until}")
        if self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, got {self.size}")


@dataclass(frozen=True, slots=True)
class OptimizerConfig:
    """How the parameters are moved."""

    name: Literal["adam", "adamw"] = "adam"
    """Rule; adamw decays the weights apart from the gradient."""
    lr: dict[str, Scalar] = field(default_factory=dict)
    """Learning rate of each parameter group; groups left out keep their defaults."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of the two moment averages."""
    eps: float = 1e-15
    """Added to the root of the second moment; small, since gradients of a hash table are."""
    weight_decay: float = 0.0
    """Strength of the pull of all parameters to zero."""
    max_gradient_norm: float | None = None
    """Longer gradients (norm over all parameters) are scaled down to it; none: never."""

    def __post_init__(self) -> None:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), got {self.betas}")
        if self.eps <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"eps must be > 0 and weight_decay >= 0, got {self.eps} and {self.weight_decay}"
            )
        if self.max_gradient_norm is not None and self.max_gradient_norm <= 0:
            raise ValueError(f"max_gradient_norm must be > 0, got {self.max_gradient_norm}")
        object.__setattr__(self, "lr", DEFAULT_RATES | self.lr)


@dataclass(frozen=True, slots=True)
class StageConfig:
    """One stage of a recipe: what is optimised, seen how, under which guidance, for how long."""

    steps: int
    """Number of optimiser steps."""
    guidance: dict[str, Any]
    """Guidance: its file's `name` and its settings; a `sum` has several rules."""
    representation: dict[str, Any] = field(default_factory=lambda: {"name": "hashgrid"})
    """Representation: its file's `name` and its settings."""
    renderer: dict[str, Any] = field(default_factory=lambda: {"name": "volume"})
    """Renderer: its file's `name` and its settings."""
    prompts: PromptConfig = field(default_factory=PromptConfig)
    """How prompts depend on the view."""
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    """How the prompts of a layout's objects are mixed, if the run has a layout."""
    passes: PassConfig = field(default_factory=PassConfig)
    """Which of a layout's objects the steps show, if the run has a layout."""
    cameras: CameraRanges = field(default_factory=CameraRanges)
    """Where training views are taken from."""
    shading: ShadingConfig = field(default_factory=ShadingConfig)
    """How training views are lit."""
    views: int = 2
    """Number of views rendered in each step."""
    particles: int = 1
    """Number of objects that are made at once, each with its own representation and renderer; a
    step is about one of them, drawn anew, and guidance that learns learns from all. The first one
    is shown and exported."""
    milestones: tuple[Milestone, ...] = (Milestone(until=1.0, size=64),)
    """Sizes of the renders over the stage, in order."""
    pixel_weight: PixelWeight = "uniform"
    """How much of the guidance's gradient each pixel takes: all the same, as its opacity (`alpha`),
    or as the surface turns to the camera (`facing`)."""
    controls: tuple[ControlConfig, ...] = ()
    """ControlNets that see depth or normals of the render and steer the denoiser by them, under
    every rule."""
    pixel_gradient: PixelGradientConfig | None = None
    """How the guidance's gradient is clipped at the pixels of the render (PGC); none: it is not."""
    encoder_gradient: EncoderGradient = "exact"
    """How it comes back through the prior's encoder; `linear` by one matrix for all pixels."""
    losses: dict[str, Scalar] = field(default_factory=dict)
    """Weight of each regulariser by name; those left out are not used."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser and learning rates."""
    surface: SurfaceMethod = "density"
    """How the next stage finds the surface, if this object is no mesh: `density` cuts it where it
    has the outline that is seen, `tsdf` fuses the depth of views."""
    start_from: str | None = None
    """`previous` goes on with the object of the stage before; the path of a model (glb, obj, ply,
    stl), of Gaussians (ply) or, for a picture, of a picture (png, jpg, webp) starts from that; none
    starts afresh."""

    def __post_init__(self) -> None:
        for name in ("steps", "views", "particles"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.views % self.cameras.together:
            raise ValueError(
                f"views must be a multiple of cameras.together {self.cameras.together}, got "
                f"{self.views}"
            )
        start = self.start_from
        known = (*FRAME_OF, *READABLE)
        if start not in (None, PREVIOUS) and Path(start).suffix.lower() not in known:
            raise ValueError(
                f"start_from must be {PREVIOUS}, the path of a model or, for a picture, of a "
                f"picture ({', '.join(known)}) or null, got {start!r}"
            )
        ends = [milestone.until for milestone in self.milestones]
        if not ends or ends[-1] != 1 or not all(a < b for a, b in pairwise(ends)):
            raise ValueError(f"milestones must have rising `until` that end at 1, got {ends}")

    def size_at(self, progress: float) -> int:
        """Return the size of the training renders at `progress` in [0, 1], pixels."""
        fitting = (milestone for milestone in self.milestones if progress < milestone.until)
        return next(fitting, self.milestones[-1]).size

    @property
    def rules(self) -> dict[str, Plain]:
        """Settings of the single rules of the guidance, by their dotted path below the stage."""
        return components.rules_in(self.guidance)

    @property
    def needs_normals(self) -> bool:
        """Whether renders must have normals, whatever the guidance is."""
        shows_normals = any(control.sees == "normal" for control in self.controls)
        return shows_normals or self.pixel_weight == "facing"

    def resolved(self, where: str = "") -> "StageConfig":
        """Spell out all defaults of the components.

        Raises:
            InputError: a component or one of its settings is unknown or wrong, a sum has no rules,
                or a ControlNet cannot be; `where` is the dotted path of this stage, for the
                message.
        """
        prefix = f"{where}." if where else ""
        check_controls(self.controls, f"{prefix}controls")
        if self.controls and self.renderer.get("name") == FLAT:
            raise InputError(
                f"{prefix}controls: a picture has neither depth nor normals for ControlNets.",
                f"leave {prefix}controls out, or make an object.",
            )
        start_from = self.start_from
        if start_from not in (None, PREVIOUS):
            is_picture = Path(start_from).suffix.lower() in READABLE
            if is_picture and self.renderer.get("name") != FLAT:
                raise InputError(
                    f"{prefix}start_from is a picture, with which no object can begin.",
                    f"give a model ({', '.join(FRAME_OF)}), or make a picture: `dreamlab image`.",
                )
            start_from = str(Path(start_from).expanduser().absolute())
        guidance = components.find("guidance", self.guidance, f"{prefix}guidance").plain
        if not components.rules_in(guidance):
            raise InputError(
                f"{prefix}guidance is a sum without rules.",
                f"name some: {prefix}guidance.rules={{colors: {{name: sds}}}}.",
            )
        return replace(
            self,
            start_from=start_from,
            representation=components.find(
                "representations", self.representation, f"{prefix}representation"
            ).plain,
            renderer=components.find("renderers", self.renderer, f"{prefix}renderer").plain,
            guidance=guidance,
        )
