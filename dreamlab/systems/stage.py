"""A stage: representation, renderer, guidance and losses wired into one training step.

    cameras -> renderer(representation) -> Render -> guidance + regularisers -> loss -> backward

Progress is step / steps, in [0, 1). Every random number of a step comes from a generator that is a
function of (seed, stage, step, purpose) alone, so a resumed run repeats an uninterrupted one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamlab.core import seeds
from dreamlab.core.cameras import Cameras, orbit_cameras, sample_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import (
    Adopting,
    AdoptingSplats,
    Refining,
    Representation,
    Shape,
    Splats,
    Volume,
)
from dreamlab.core.render import Render
from dreamlab.guidance.base import Guidance, needs_normals
from dreamlab.guidance.learning import Learning
from dreamlab.guidance.pgc import PixelGradients
from dreamlab.ops.volume.surface import closed, extract_surface, smoothed
from dreamlab.ops.volume.threshold import SilhouetteReference, find_threshold
from dreamlab.ops.volume.tsdf import fused_surface
from dreamlab.renderers.pbr import check_material
from dreamlab.renderers.shading import Shading, sample_shading, unlit
from dreamlab.systems import components
from dreamlab.systems.assets import Asset
from dreamlab.systems.components import Component
from dreamlab.systems.losses import Losses
from dreamlab.systems.settings import StageConfig

PREVIEW_ELEVATION = 15.0
"""Degrees above the horizon, as far as the training views go that high."""
OUTLINE_VIEWS, OUTLINE_SIZE = 8, 96
"""Views, and pixels and nodes an axis, that the surface handed to the next stage is found with."""
BLUR, CLOSING = 0.75, 2
"""How the density that the next stage's surface is cut from is blurred and closed, in distances
between nodes: uneven Gaussians leave crumbs and holes (mushroom: 20 parts become 2, and the larger
one has no hole; chair: 31 parts become one)."""
DEPTH_RINGS = ((8, 0.0, -45.0), (8, 22.5, 0.0), (8, 0.0, 45.0))
"""Rings of views whose depth is fused: their number, turn and elevation, degrees. They look from
below too, whatever was trained: what no view sees counts as inside."""
ALMOST_EMPTY = 1e-4
"""Opacity below which there is no depth."""
CHUNK = 4
"""Views rendered at once; bounds memory."""


class Renderer(Protocol):
    """What a stage asks of a renderer; concrete classes are `nn.Module`s, one file each."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the renderer's own trainable parameters by group name."""
        ...

    def update(self, step: int, progress: float, generator: torch.Generator) -> None:
        """Refresh what accelerates rendering, if that is due at `step`."""
        ...

    def __call__(
        self,
        cameras: Cameras,
        height: int,
        width: int,
        *,
        shading: Shading,
        training: bool,
        generator: torch.Generator | None = None,
        background: Tensor | None = None,
        normals: bool = False,
        depth_variance: bool = False,
    ) -> Render:
        """Render all views."""
        ...


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step found out; its gradients are in the parameters."""

    loss: float
    """Guidance and weighted regularisers together; may be infinite or NaN."""
    metrics: dict[str, float]
    """`guidance`, the guidance's own metrics, those of clipped pixel gradients, unweighted
    regularisers, mean `opacity`, `size`."""


class Stage:
    """The parts of a stage, and the step that they take together."""

    def __init__(
        self,
        name: str,
        config: StageConfig,
        guidance: Guidance | None,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        """Build representation and renderer; their initial values follow from `seed` and `name`.

        Without guidance the stage can be rendered but takes no steps.

        Raises:
            InputError: a component, one of its settings or a loss is unknown or wrong, or there is
                no material for physically based views.
        """
        self.name, self.config, self.guidance = name, config, guidance
        self.seed, self.device = seed, device
        self._parts = _find_parts(name, config)
        self._modules: dict[str, nn.Module] = {}
        self._particles = [self._build_particle(index) for index in range(config.particles)]
        self.representation: Representation
        self.renderer: Renderer
        self.focus(0)
        self.losses = Losses(config.losses)
        self.losses.check_names(set(self.representation.regularisers()))

    def _build_particle(self, index: int) -> tuple[Any, Any]:
        key = (index,) if index else ()  # one particle alone begins as the first of many does
        initial = seeds.generator(self.seed, self.name, "initial values", *key)
        field = self._build("representation", initial)
        if self.config.shading.pbr > 0:
            check_material(field, f"stages.{self.name}.shading.pbr")
        renderer = self._build("renderer", field, initial)
        prefix = f"particle{index}." if index else ""
        self._modules |= {f"{prefix}representation": field, f"{prefix}renderer": renderer}
        return field, renderer

    def focus(self, particle: int) -> None:
        """Make `representation` and `renderer` those of one particle; between steps, the first."""
        self.representation, self.renderer = self._particles[particle]

    def particle_at(self, step: int) -> int:
        """Return the particle that a step is about, drawn anew for each."""
        drawn = torch.randint(
            self.config.particles, (), generator=self._generator(step, "particle")
        )
        return int(drawn)

    def _build(self, part: str, *arguments: Any) -> nn.Module:
        component = self._parts[part]
        return component.module.build(component.config, *arguments).to(self.device)

    def progress_at(self, step: int) -> float:
        """Return the fraction of the stage that is done before `step`, in [0, 1]."""
        return step / self.config.steps

    def step(self, step: int) -> StepResult:
        """Render views, judge them and add the loss's gradient to the parameters' `.grad`.

        All of them are of one particle, which stays in focus.
        """
        if self.guidance is None:
            raise ValueError(f"stage {self.name!r} was built without guidance")
        progress = self.progress_at(step)
        self.focus(self.particle_at(step))
        for module in self._modules.values():
            module.train()
        self.representation.set_progress(progress)
        self.renderer.update(step, progress, self._generator(step, "renderer update"))
        cameras = sample_cameras(
            self.config.cameras, self.config.views, self._generator(step, "cameras")
        ).to(self.device)
        render = self._training_render(cameras, step, progress)
        pixels = PixelGradients(self.config.pixel_gradient, progress)
        shown = pixels.guard(render)
        guided = self.guidance(shown, cameras, progress, self._generator(step, "guidance"))
        penalty, values = self.losses.evaluate(render, self.representation.regularisers, progress)
        loss = guided.loss + penalty
        loss.backward()
        values |= {"opacity": render.alpha.mean(), "guidance": guided.loss, "loss": loss}
        metrics = guided.metrics | pixels.metrics | _to_floats(values)
        metrics["size"] = float(render.rgb.shape[1])
        return StepResult(metrics.pop("loss"), metrics)

    def refine(self, step: int) -> Int[Tensor, " rows"] | None:
        """Let the particle in focus change its parameters' places after a step, if it does that.

        Returns:
            Rows of the representation's parameters whose optimiser state no longer fits.
        """
        if not isinstance(self.representation, Refining):
            return None
        generator = self._generator(step, "refine")
        return self.representation.refine(step, self.progress_at(step), generator)

    def _training_render(self, cameras: Cameras, step: int, progress: float) -> Render:
        size = self.config.size_at(progress)
        buffers = self.losses.buffers(progress)
        shading = sample_shading(
            self.config.shading, progress, cameras, self._generator(step, "shading")
        )
        return self.renderer(
            cameras,
            size,
            size,
            shading=shading,
            training=True,
            generator=self._generator(step, "render"),
            normals=buffers.normals or needs_normals(self.guidance),
            depth_variance=buffers.depth_variance,
        )

    def _generator(self, step: int, purpose: str) -> torch.Generator:
        return seeds.generator(self.seed, self.name, step, purpose)

    def render(
        self,
        cameras: Cameras,
        height: int,
        width: int,
        *,
        normals: bool = False,
        background: Float[Tensor, "*shape 3"] | None = None,
    ) -> Render:
        """Render the albedo for people and judges: deterministic, without gradient.

        Args:
            cameras: any number; they are moved to the stage's device.
            height: of the images, pixels; also `width`.
            normals: also render normals.
            background: colours behind the object, sRGB, instead of the renderer's own.
        """
        for module in self._modules.values():
            module.eval()
        cameras = cameras.to(self.device)
        with torch.no_grad():
            return self.renderer(
                cameras,
                height,
                width,
                shading=unlit(cameras),
                training=False,
                background=background,
                normals=normals,
            )

    def view_around(
        self,
        num_views: int,
        *,
        elevation: float = PREVIEW_ELEVATION,
        turned: float = 0.0,
        as_trained: bool = True,
    ) -> Cameras:
        """Return cameras evenly around the object, at the middle of the training distances.

        Args:
            num_views: number of cameras; the first sees the front if `turned` is 0.
            elevation: degrees.
            turned: degrees that are added to the azimuths.
            as_trained: clip the elevation to those that were trained.
        """
        ranges = self.config.cameras
        low, high = ranges.elevation if as_trained else (elevation, elevation)
        constant = torch.ones(num_views)
        return orbit_cameras(
            turned + torch.arange(num_views) * (360.0 / num_views),
            constant * min(max(elevation, low), high),
            constant * sum(ranges.distance) / 2,
            constant * sum(ranges.fov_y) / 2,
        ).to(self.device)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return all trainable parameters by group name."""
        groups: dict[str, list[nn.Parameter]] = {}
        for part in (part for particle in self._particles for part in particle):
            for name, parameters in part.parameter_groups().items():
                groups.setdefault(name, []).extend(parameters)
        return groups

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that the stage's future depends on, except the optimiser's."""
        states = {part: module.state_dict() for part, module in self._modules.items()}
        if isinstance(self.guidance, Learning):
            states["guidance"] = self.guidance.state()
        return {
            f"{part}.{name}": tensor
            for part, state in states.items()
            for name, tensor in state.items()
        }

    def learned_parameters(self) -> list[nn.Parameter]:
        """Return what the guidance trains by itself; usually nothing."""
        return self.guidance.parameters() if isinstance(self.guidance, Learning) else []

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` returned; names of other parts are ignored.

        Raises:
            InputError: the tensors belong to other settings.
        """
        for part, module in self._modules.items():
            self._load(part, module, _part_of(tensors, part))
        if isinstance(self.guidance, Learning):
            self.guidance.load_state(_part_of(tensors, "guidance"))

    def continue_from(self, previous: "Stage") -> None:
        """Take over the object of the stage before.

        The same representation goes on as it is; another one adopts the object's surface and
        colours. The renderer's state comes along if its settings are the same. Each particle takes
        over one of the particles before, in their order.

        Raises:
            InputError: this representation cannot become a mesh, or there is no surface yet.
        """
        for index in range(len(self._particles)):
            self.focus(index)
            previous.focus(index % len(previous._particles))
            self._continue_particle_from(previous)
        self.focus(0)
        previous.focus(0)

    def _continue_particle_from(self, previous: "Stage") -> None:
        mine, theirs = self._parts["representation"], previous._parts["representation"]
        if mine.name == theirs.name:
            state = previous.representation.state_dict()
            self._load("representation", self.representation, state)
        elif isinstance(self.representation, Adopting):
            self.representation.adopt(surface_of(previous), previous.representation.color_at)
        else:
            raise InputError(
                f"stage {self.name!r} cannot start from stage {previous.name!r}: a {theirs.name} "
                f"cannot become a {mine.name}.",
                f"set stages.{self.name}.start_from to null, or use the same representation.",
            )
        if self._parts["renderer"] == previous._parts["renderer"]:
            renderer: Any = previous.renderer
            self._load("renderer", self.renderer, renderer.state_dict())

    def begin_with(self, start: Asset | Splats) -> None:
        """Take over the shape and the colours of a model, or Gaussians as they are.

        Raises:
            InputError: this representation cannot become that.
        """
        name = self._parts["representation"].name
        if isinstance(start, Splats):
            if not isinstance(self.representation, AdoptingSplats):
                raise InputError(
                    f"stage {self.name!r} cannot start from Gaussians: a {name} has none.",
                    f"set stages.{self.name}.start_from to a mesh, or use gaussians.",
                )
            for field, _ in self._particles:
                field.adopt_splats(start)
            return
        if not isinstance(self.representation, Adopting):
            raise InputError(
                f"stage {self.name!r} cannot start from a model: a {name} cannot become a mesh.",
                f"set stages.{self.name}.start_from to null, or use dmtet, gaussians, "
                "textured_mesh or uv_mesh.",
            )
        for field, _ in self._particles:
            field.adopt(start.mesh, start.color_at)

    def set_progress(self, progress: float) -> None:
        """Move the schedules inside all particles to `progress`."""
        for field, _ in self._particles:
            field.set_progress(progress)

    def _load(self, part: str, module: Any, state: Mapping[str, Any]) -> None:
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"the saved {part} does not fit stage {self.name!r}: {reason}.",
                f"use the settings of stages.{self.name}.{part} that it was saved with.",
            ) from None


def surface_of(stage: Stage) -> Mesh:
    """Return the surface of a stage's object: its mesh, or where its density has the outline seen.

    Raises:
        InputError: there is no surface.
    """
    representation = stage.representation
    if isinstance(representation, Shape):
        with torch.no_grad():
            return representation.triangles().to_mesh()
    if not isinstance(representation, Volume):
        raise InputError(
            f"stage {stage.name!r} makes a picture, which has no surface.",
            "let no stage start from it, and export nothing.",
        )
    half_extent = representation.half_extent
    if stage.config.surface == "tsdf":
        return fused_surface(depth_views(stage, OUTLINE_SIZE), half_extent, OUTLINE_SIZE)
    reference = silhouettes(stage, ((OUTLINE_VIEWS, 0.0, PREVIEW_ELEVATION),), OUTLINE_SIZE)
    density = closed(smoothed(representation.density_grid(OUTLINE_SIZE), BLUR), CLOSING)
    threshold = find_threshold(density, half_extent, reference).value
    return extract_surface(density, threshold, half_extent)


def depth_views(stage: Stage, size: int) -> SilhouetteReference:
    """Render the views whose depth is fused, `size` pixels high and wide."""
    return silhouettes(stage, DEPTH_RINGS, size, as_trained=False)


def silhouettes(
    stage: Stage,
    rings: Sequence[tuple[int, float, float]],
    size: int,
    *,
    as_trained: bool = True,
) -> SilhouetteReference:
    """Render opacity and depth of a stage from rings of views.

    Args:
        stage: what is looked at.
        rings: number of views, turn and elevation of each ring, degrees.
        size: height and width of the renders, pixels.
        as_trained: clip elevations to those that were trained.
    """
    around = [
        stage.view_around(n, turned=turn, elevation=up, as_trained=as_trained)
        for n, turn, up in rings
    ]
    cameras = Cameras(
        **{f.name: torch.cat([getattr(ring, f.name) for ring in around]) for f in fields(Cameras)}
    )
    alphas, depths = [], []
    for start in range(0, len(cameras), CHUNK):
        render = stage.render(cameras[start : start + CHUNK], size, size)
        alphas.append(render.alpha)
        depths.append(render.depth / render.alpha.clamp(min=ALMOST_EMPTY))
    return SilhouetteReference(cameras, torch.cat(alphas), torch.cat(depths))


def _find_parts(name: str, config: StageConfig) -> dict[str, Component]:
    where = f"stages.{name}"
    return {
        "representation": components.find(
            "representations", config.representation, f"{where}.representation"
        ),
        "renderer": components.find("renderers", config.renderer, f"{where}.renderer"),
    }


def _part_of(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return the tensors of one part of a stage, under the names that the part gave them."""
    prefix = f"{part}."
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _to_floats(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Read scalars from the device all at once."""
    numbers = torch.stack([value.detach().float() for value in values.values()]).tolist()
    return dict(zip(values, numbers, strict=True))
