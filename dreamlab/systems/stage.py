"""A stage: representation, renderer, guidance and losses wired into one training step.

    cameras -> renderer(representation) -> Render -> guidance + regularisers -> loss -> backward

Progress is step / steps, in [0, 1). Every random number of a step comes from a generator that is a
function of (seed, stage, step, purpose) alone, so a resumed run repeats an uninterrupted one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamlab.core import seeds
from dreamlab.core.cameras import Cameras, orbit_cameras, sample_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.core.protocols import (
    LaidOut,
    Latent,
    Refining,
    Representation,
    objects_of,
    shown_of,
)
from dreamlab.core.regions import Regions
from dreamlab.core.render import Render
from dreamlab.guidance.base import Guidance, needs_albedo, needs_normals, views_together
from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.learning import Learning
from dreamlab.guidance.pgc import PixelGradients
from dreamlab.guidance.pixel_weights import weigh_gradients
from dreamlab.guidance.sum import rules_of
from dreamlab.renderers.pbr import check_material
from dreamlab.renderers.shading import Shading, sample_shading, unlit
from dreamlab.representations.composed import compose
from dreamlab.systems import components
from dreamlab.systems.components import Component
from dreamlab.systems.losses import Losses
from dreamlab.systems.passes import look_at_shown
from dreamlab.systems.per_object import check_per_object
from dreamlab.systems.settings import StageConfig

PREVIEW_ELEVATION = 15.0
"""Degrees above the horizon, as far as the training views go that high."""


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
        albedo: bool = False,
        depth_variance: bool = False,
        regions: Regions | None = None,
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
        layout: Layout | None = None,
    ) -> None:
        """Build representation and renderer; their initial values follow from `seed` and `name`.

        Without guidance the stage can be rendered but takes no steps. With a layout there are as
        many bodies to begin with as boxes, where the representation can do that.

        Raises:
            InputError: a component, one of its settings or a loss is unknown or wrong, or there is
                no material for physically based views, or no layout for what needs one.
        """
        self.name, self.config, self.guidance = name, config, guidance
        self.seed, self.device, self.layout = seed, device, layout
        self.regions = None if layout is None else Regions.of(layout, device)
        self.parts = _find_parts(name, config)
        check_per_object({name: config}, layout)
        self._modules: dict[str, nn.Module] = {}
        self.particles: list[tuple[Any, Any]] = [
            self._build_particle(index) for index in range(config.particles)
        ]
        """Representation and renderer of each."""
        self._references: list[tuple[Any, Any]] = []
        """The same of each at the begin of the stage, if guidance compares with that."""
        self.representation: Representation
        self.renderer: Renderer
        self.focus(0)
        self.losses = Losses(config.losses)
        self.losses.check_names(set(self.representation.regularisers()))
        self.losses.check_layout(has_layout=layout is not None)

    def _build_particle(self, index: int, owner: str = "") -> tuple[Any, Any]:
        key = (index,) if index else ()  # one particle alone begins as the first of many does
        initial = seeds.generator(self.seed, self.name, "initial values", *key)
        field = self._build_representation(initial)
        if self.config.shading.pbr > 0:
            check_material(field, f"stages.{self.name}.shading.pbr")
        renderer = self._build("renderer", field, initial)
        prefix = owner + (f"particle{index}." if index else "")
        self._modules |= {f"{prefix}representation": field, f"{prefix}renderer": renderer}
        return field, renderer

    def _build_representation(self, initial: torch.Generator) -> Any:
        """Build what the boxes of a layout have in common, or one for each of them."""
        if self.regions is not None and self.parts["representation"].per_object:
            objects = [self._build("representation", initial) for _ in range(len(self.regions))]
            return compose(objects, self.regions)
        field = self._build("representation", initial)
        if self.regions is not None and isinstance(field, LaidOut):
            field.begin_in(self.regions)
        return field

    def keep_reference(self) -> None:
        """Keep a copy of the objects as they are now, if the guidance compares renders with it.

        To be called when the stage has what it starts from. The copy belongs to the stage's state,
        and no step changes it but for its schedules, which move as those of the object do.

        Raises:
            InputError: the stage holds latents, of which there is no picture to encode.
        """
        if not any(isinstance(rule, Comparing) for rule in rules_of(self.guidance).values()):
            return
        if isinstance(self.representation, Latent):
            name = self.parts["representation"].name
            raise InputError(
                f"stage {self.name!r} cannot compare with what it began as: a {name} is latents.",
                f"set stages.{self.name}.representation.name to image.",
            )
        for index, (field, renderer) in enumerate(self.particles):
            copies = self._build_particle(index, "reference.")
            for part, copy, own in zip(self.parts, copies, (field, renderer), strict=True):
                self.load_part(part, copy, own.state_dict())
                copy.requires_grad_(False)
            self._references.append(copies)

    def focus(self, particle: int) -> None:
        """Make `representation` and `renderer` those of one particle; between steps, the first."""
        self.representation, self.renderer = self.particles[particle]

    def particle_at(self, step: int) -> int:
        """Return the particle that a step is about, drawn anew for each."""
        drawn = torch.randint(
            self.config.particles, (), generator=self._generator(step, "particle")
        )
        return int(drawn)

    def _build(self, part: str, *arguments: Any) -> nn.Module:
        component = self.parts[part]
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
            self.config.cameras,
            self.config.views,
            self._generator(step, "cameras"),
            max(views_together(self.guidance, self.config.views), self.config.cameras.together),
        )
        cameras = self._look_at_shown(cameras, step).to(self.device)
        render = self._training_render(cameras, step, progress)
        pixels = PixelGradients(self.config.pixel_gradient, progress)
        shown = weigh_gradients(pixels.guard(render), cameras, self.config.pixel_weight)
        guided = self.guidance(shown, cameras, progress, self._generator(step, "guidance"))
        drawn = shown_of(self.representation, self._regions_at(step))
        penalty, values = self.losses.evaluate(render, drawn.regularisers, progress)
        loss = guided.loss + penalty
        loss.backward()
        values |= {"opacity": render.alpha.mean(), "guidance": guided.loss, "loss": loss}
        metrics = guided.metrics | pixels.metrics | _to_floats(values)
        metrics["size"] = float(render.rgb.shape[1])
        return StepResult(metrics.pop("loss"), metrics)

    def refine(self, step: int) -> list[tuple[list[nn.Parameter], Int[Tensor, " rows"]]]:
        """Let the particle in focus change its parameters' places after a step, if it does that.

        Returns:
            Parameters, and their rows whose optimiser state no longer fits.
        """
        generator, progress = self._generator(step, "refine"), self.progress_at(step)
        changed = []
        for part in objects_of(self.representation):
            parameters = [p for group in part.parameter_groups().values() for p in group]
            if isinstance(part, Refining):
                changed.append((parameters, part.refine(step, progress, generator)))
        return changed

    def _regions_at(self, step: int) -> Regions | None:
        """Return the layout's boxes with the objects that a step shows."""
        if self.regions is None:
            return None
        return self.regions.only(self.config.passes.shown_at(step, len(self.regions)))

    def _look_at_shown(self, cameras: Cameras, step: int) -> Cameras:
        if self.layout is None:
            return cameras
        passes = self.config.passes
        shown = passes.shown_at(step, len(self.layout))
        return look_at_shown(cameras, self.layout, shown, passes.framing)

    def _training_render(self, cameras: Cameras, step: int, progress: float) -> Render:
        size = self.config.size_at(progress)
        buffers = self.losses.buffers(progress)
        shading = sample_shading(
            self.config.shading, progress, cameras, self._generator(step, "shading")
        )

        normals = buffers.normals or needs_normals(self.guidance) or self.config.needs_normals

        def seen_by(renderer: Any) -> Render:
            return renderer(
                cameras,
                size,
                size,
                shading=shading,
                training=True,
                generator=self._generator(step, "render"),
                normals=normals,
                albedo=needs_albedo(self.guidance),
                depth_variance=buffers.depth_variance,
                regions=self._regions_at(step),
            )

        render = seen_by(self.renderer)
        if not self._references:
            return render
        field, renderer = self._references[self.particle_at(step)]
        field.set_progress(progress)
        renderer.update(step, progress, self._generator(step, "renderer update"))
        with torch.no_grad():
            return replace(render, reference=seen_by(renderer))

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
        regions: Regions | None = None,
    ) -> Render:
        """Render the albedo for people and judges: deterministic, without gradient.

        Args:
            cameras: any number; they are moved to the stage's device.
            height: of the images, pixels; also `width`.
            normals: also render normals.
            background: colours behind the object, sRGB, instead of the renderer's own.
            regions: boxes of the layout, to show some of its objects alone.
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
                regions=regions,
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
        for part in (part for particle in self.particles for part in particle):
            for name, parameters in part.parameter_groups().items():
                groups.setdefault(name, []).extend(parameters)
        return groups

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that the stage's future depends on, except the optimiser's."""
        states = {part: module.state_dict() for part, module in self._modules.items()}
        states |= {part: rule.state() for part, rule in self._learning.items()}
        return {
            f"{part}.{name}": tensor
            for part, state in states.items()
            for name, tensor in state.items()
        }

    def learned_parameters(self) -> list[nn.Parameter]:
        """Return what the guidance trains by itself; usually nothing."""
        return [p for rule in self._learning.values() for p in rule.parameters()]

    @property
    def _learning(self) -> dict[str, Learning]:
        """The rules that learn, by the part of the state that is theirs."""
        rules = rules_of(self.guidance).items()
        return {
            f"guidance.{name}" if name else "guidance": rule
            for name, rule in rules
            if isinstance(rule, Learning)
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` returned; names of other parts are ignored.

        Raises:
            InputError: the tensors belong to other settings.
        """
        for part, module in self._modules.items():
            self.load_part(part, module, _part_of(tensors, part))
        for part, rule in self._learning.items():
            rule.load_state(_part_of(tensors, part))

    def set_progress(self, progress: float) -> None:
        """Move the schedules inside all particles to `progress`."""
        for field, _ in self.particles:
            field.set_progress(progress)

    def load_part(self, part: str, module: Any, state: Mapping[str, Any]) -> None:
        """Load the saved values of one module.

        Raises:
            InputError: they belong to other settings.
        """
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"the saved {part} does not fit stage {self.name!r}: {reason}.",
                f"use the settings of stages.{self.name}.{part} that it was saved with.",
            ) from None


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
