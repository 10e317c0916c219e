"""Six routes of a gradient from the latents to what is optimised, run side by side.

    latents      no encoder: the latents themselves are optimised; pictures only
    vae          through the encoder's own Jacobian
    linear       through one fixed matrix in its place
    normalized   vae, each view scaled so that its largest pixel has size c
    pgc-value    vae, every channel of a pixel clipped to c
    pgc-norm     vae, every pixel's gradient shortened to c

Each route makes the same steps of the last stage of a recipe, as a run of it would (ControlNets and
image prompt included): same seed, views, noise levels and noise. At one step the gradient is kept,
as it comes out of the encoder and as it goes on to the renderer. One view a step, so gradients are
those of a single view (see `guidance.pgc`); a model that judges several views at once has no such
gradient and is refused.

If no threshold c is given, it is the 90th percentile of the sizes of route vae at that step.

Source: Pan et al., Enhancing High-Resolution 3D Generation through Pixel-wise Gradient Clipping
(2024), figure 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import DivergedError, InputError
from dreamlab.core.locations import cache_dir
from dreamlab.core.protocols import Adopting, Latent
from dreamlab.core.render import Render
from dreamlab.guidance.base import Guidance, GuidanceOutput, needs_albedo, needs_normals
from dreamlab.guidance.pgc import PixelGradientConfig, clip_gradient, percentiles, sizes
from dreamlab.jobs.recipes import RunConfig, load_recipe
from dreamlab.priors.base import Prior
from dreamlab.priors.traits import foreseen
from dreamlab.systems.assets import load_asset
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.handover import begin_with
from dreamlab.systems.prior import load_for_stages
from dreamlab.systems.propagation import prior_of
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.trainer import StageTrainer

ROUTES = ("latents", "vae", "linear", "normalized", "pgc-value", "pgc-norm")
POLICIES = {"normalized": "normalized", "pgc-value": "value", "pgc-norm": "norm2"}
"""Routes that clip, and how."""
RECIPES = ("toybox-image", "toybox-texture")
SHARE = 0.9
"""Share of pixels below the threshold that is chosen if none is given."""
Moved = Callable[[str, float], None]
"""Is told which fraction of a route is done."""


@dataclass(frozen=True, slots=True)
class RoutesConfig:
    """What is compared."""

    prompt: str
    """What to show."""
    recipes: tuple[str, ...] = RECIPES
    """Recipes; the last stage of each is run."""
    steps: int = 100
    """Steps of every route."""
    at: int | None = None
    """The step whose gradients are kept, from 1; none: the last one."""
    threshold: float | None = None
    """c; none: chosen as the module docstring says."""
    mesh: Path | None = None
    """A model that stages with a mesh start from; none: a ball."""
    seed: int = 0
    """Of all routes."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not 1 <= self.step_kept <= self.steps:
            raise ValueError(f"`at` must lie in 1 to steps, got {self.at} of {self.steps}")
        if self.threshold is not None and self.threshold <= 0:
            raise ValueError(f"threshold must be > 0, got {self.threshold}")

    @property
    def step_kept(self) -> int:
        """The step whose gradients are kept, from 1."""
        return self.steps if self.at is None else self.at


@dataclass(frozen=True)
class Route:
    """What a route has made."""

    name: str
    picture: Float[Tensor, "height width 3"]
    """From the front, over white, sRGB in [0, 1]."""
    before: Float[Tensor, "h w"]
    """Size |g_p|_2 of each pixel's gradient as it comes out of the encoder, at the kept step; for
    `latents` that of each latent's."""
    after: Float[Tensor, "h w"]
    """The same as it goes on."""


@dataclass(frozen=True)
class Comparison:
    """The routes of one recipe."""

    recipe: str
    threshold: float
    routes: list[Route]

    def to_plain(self) -> dict:
        """Return what is told of it as JSON."""
        vae = next(route for route in self.routes if route.name == "vae")
        told = {}
        for route in self.routes:
            told[route.name] = {
                "before": {k: float(v) for k, v in percentiles(route.before).items()},
                "after": {k: float(v) for k, v in percentiles(route.after).items()},
                "changed": float((route.before != route.after).float().mean()),
                "difference_from_vae": float((route.picture - vae.picture).abs().mean()),
            }
        return {"recipe": self.recipe, "threshold": self.threshold, "routes": told}


def compare(config: RoutesConfig, device: torch.device, moved: Moved) -> list[Comparison]:
    """Run all routes of all recipes.

    Args:
        config: what is compared.
        device: where.
        moved: is told what is running, and how much of it is done.

    Raises:
        InputError: a recipe, its model or the mesh is refused; before anything is run.
        DivergedError: a step is not finite.
        MissingError: the prior cannot be had.
    """
    if config.mesh is not None and not config.mesh.is_file():
        raise InputError(f"{config.mesh} does not exist.", "give the path of a model.")
    plans = [load_recipe(name, prompt=config.prompt, seed=config.seed) for name in config.recipes]
    for plan in plans:
        _check_single_views(plan)
    stages = [_last_stage(plan, config.steps)[1] for plan in plans]
    comparisons: list[Comparison] = []
    prior: Prior | None = None
    for i, plan in enumerate(plans):
        if prior is None or plan.prior != plans[i - 1].prior:
            asked = [s for s, p in zip(stages, plans, strict=True) if p.prior == plan.prior]
            prior = load_for_stages(plan.prior, asked, device, plan.layout)
        comparisons.append(_compare(config, plan, prior, device, moved))
    return comparisons


def _last_stage(plan: RunConfig, steps: int) -> tuple[str, StageConfig]:
    """Return name and settings of the stage whose routes are compared."""
    name, stage = list(plan.stages.items())[-1]
    return name, replace(stage, steps=steps, views=1, start_from=None)


def _check_single_views(plan: RunConfig) -> None:
    """Refuse a recipe whose model judges several views at once.

    Raises:
        InputError: naming the recipe and the model.
    """
    if (foreseen(plan.prior).num_views or 1) > 1:
        raise InputError(
            f"routes are compared by the gradient of a single view, and {plan.prior.model}, the "
            f"model of the recipe {plan.recipe}, judges several views of an object at once.",
            "name a recipe whose model judges single views, such as toybox-texture or pgc.",
        )


def _compare(
    config: RoutesConfig, plan: RunConfig, prior: Prior, device: torch.device, moved: Moved
) -> Comparison:
    name, stage = _last_stage(plan, config.steps)
    done: dict[str, Route] = {}
    threshold, painted = config.threshold, None
    for route in _order(stage):
        own = with_route(stage, route, prior, threshold)
        built = Stage(name, own, None, seed=plan.seed, device=device, layout=plan.layout)
        run = _Run(built, prior, plan)
        if config.mesh is not None and isinstance(run.stage.representation, Adopting):
            painted = painted or _with_mesh(run.stage, config.mesh)  # its colours are fitted once
            run.stage.load_state(painted)
        run.begin()
        done[route] = run.run(
            route, config.step_kept, lambda f, r=route: moved(f"{plan.recipe} {r}", f)
        )
        if threshold is None:  # after vae, which is the first one
            threshold = threshold_of(done[route].before)
    assert threshold is not None
    return Comparison(plan.recipe, threshold, [done[r] for r in ROUTES if r in done])


def _with_mesh(stage: Stage, path: Path) -> dict[str, Tensor]:
    """Let a stage take over a model; return the state that it starts from."""
    begin_with(stage, load_asset(path, stage.representation.half_extent))
    return {name: tensor.clone() for name, tensor in stage.state().items()}


def _order(stage: StageConfig) -> Sequence[str]:
    """Return the routes that the stage can take, vae first."""
    others = [route for route in ROUTES if route != "vae"]
    if stage.renderer["name"] != "flat":
        others.remove("latents")
    return ["vae", *others]


def threshold_of(size: Float[Tensor, "h w"]) -> float:
    """Return the size that `SHARE` of the pixels that get any gradient do not exceed."""
    some = size[size > 0]
    if not len(some):
        raise InputError("no pixel gets a gradient.", "give a threshold, or another step.")
    return float(some.kthvalue(max(1, int(SHARE * len(some)))).values)


def with_route(
    stage: StageConfig, route: str, prior: Prior, threshold: float | None
) -> StageConfig:
    """Return the settings of a stage on a route."""
    if route == "latents":
        latents = {
            "name": "latent_image",
            "channels": prior.latent_channels,
            "latent_size": prior.latent_size,
            "size": prior.image_size,
        }
        return replace(stage, representation=latents)
    if route == "linear":
        return replace(stage, encoder_gradient="linear")
    if route in POLICIES:
        policy = PixelGradientConfig(policy=POLICIES[route], rgb=threshold)  # type: ignore[arg-type]
        return replace(stage, pixel_gradient=policy)
    return stage


class _Watched:
    """A rule whose gradient to the colours is kept, before it is clipped."""

    def __init__(self, rule: Guidance) -> None:
        self.rule = rule
        self.needs_normals, self.needs_albedo = needs_normals(rule), needs_albedo(rule)
        self.gradient: Tensor | None = None

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> GuidanceOutput:
        rgb = render.rgb.view_as(render.rgb)
        rgb.register_hook(self._keep)
        return self.rule(replace(render, rgb=rgb), cameras, progress, generator)

    def _keep(self, gradient: Tensor) -> None:
        self.gradient = gradient


class _Run:
    """One route being run."""

    def __init__(self, stage: Stage, prior: Prior, plan: RunConfig) -> None:
        self.stage = stage
        stage.guidance = build_guidance(
            stage.name,
            stage.config,
            prior_of(stage, prior),
            prompt=plan.prompt,
            negative_prompt=plan.negative_prompt,
            seed=plan.seed,
            cache_dir=cache_dir() / "text",
            layout=plan.layout,
        )
        self.watched = _Watched(stage.guidance)

    def begin(self) -> None:
        """Watch the rule, when the stage has what it starts from."""
        self.stage.keep_reference()
        self.stage.guidance = self.watched

    def run(self, route: str, kept: int, moved: Callable[[float], None]) -> Route:
        """Make all steps."""
        trainer = StageTrainer(self.stage, 0)
        before = after = torch.zeros(1, 1)
        for step in range(1, trainer.num_steps + 1):
            _, problem = trainer.advance()
            if problem is not None:
                raise DivergedError(
                    f"route {route!r} went bad at step {step}: {problem}.", "try another seed."
                )
            if step == kept:
                before, after = self._sizes()
            moved(step / trainer.num_steps)
        trainer.finish()
        size = self.stage.config.size_at(1.0)
        white = torch.ones(3, device=self.stage.device)
        front = self.stage.render(self.stage.view_around(1), size, size, background=white)
        return Route(route, front.rgb[0].cpu(), before, after)

    def _sizes(self) -> tuple[Tensor, Tensor]:
        """Return |g_p|_2 before and after the policy, of the step that was just made."""
        if isinstance(self.stage.representation, Latent):
            gradient = self.stage.representation.latents.grad
            assert gradient is not None
            size = gradient[0].norm(dim=0).cpu()
            return size, size
        gradient, policy = self.watched.gradient, self.stage.config.pixel_gradient
        assert gradient is not None
        clipped = gradient
        if policy is not None:
            assert isinstance(policy.rgb, float)
            clipped = clip_gradient(gradient, policy.policy, policy.rgb)
        before, after = (sizes(g, "norm2")[0, ..., 0].float().cpu() for g in (gradient, clipped))
        return before, after
