"""Delta denoising score (DDS): what a new prompt changes in a given object, and nothing else.

    g = w(t) ( eh(alpha z + sigma eps, t, y) - eh(alpha z' + sigma eps, t, y') )

Glossary: y the prompt; y' the reference prompt, which says what the object was; z, z' latents of
the render and of the reference, the object as it was at the begin of the stage, seen by the same
cameras in the same light before the same background. Other letters, normalisation: `guidance.base`;
guidance by s: `guidance.guided`.

The prediction for a picture under a prompt that fits it should be the noise. What it has beside the
noise is the same pull of the prior in both terms, away from the picture's detail, so the difference
keeps what the prompts differ in. t, eps and the noise of the encoder are common to both: g is
exactly zero where prompts and pictures agree. On Gaussians of one width the noise cancels for all
pictures, and g is zero at

    z = z' + s (mu_y - mu_y').

The paper's code has w = 1, t in [0.05, 0.95] and s = 7.5, as here.

Source: Hertz et al., Delta Denoising Score (2023), with the hyperparameters of its code; for
radiance fields: Park et al., ED-NeRF (2024).
"""

from dataclasses import dataclass, field, replace

import torch

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import GuidedConfig, GuidedRule, Judgement, Reference, Views
from dreamlab.guidance.timesteps import TimestepConfig
from dreamlab.guidance.weighting import Weighting
from dreamlab.priors.base import Prior


@dataclass(frozen=True, slots=True)
class Config(GuidedConfig):
    """Settings of the delta denoising score."""

    reference_prompt: str = ""
    """y', what the object is at the begin of the stage; it must be given."""
    weighting: Weighting = "uniform"
    """w(t), as in the other rules; the paper's is `uniform`."""
    timesteps: TimestepConfig = field(
        default_factory=lambda: TimestepConfig(t_min=0.05, t_max=0.95)
    )
    """Which noise levels are judged when."""


class DDS(GuidedRule[Config]):
    """Delta denoising score with one prior and two prompts; satisfies `Comparing`."""

    _before: Prompts | None = None

    @property
    def reference_prompt(self) -> str:
        return self.config.reference_prompt

    def compare_with(self, prompts: Prompts) -> None:
        self._before = prompts

    def refer(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> Reference:
        """Return z' and what y' is for these views.

        Raises:
            ValueError: the render has no reference, or `compare_with` was not called.
        """
        if render.reference is None or self._before is None:
            raise ValueError("dds needs renders with a reference, and the prompt of it")
        same = torch.Generator().set_state(generator.get_state())
        with torch.no_grad():
            latents = self.encode(render.reference, same)
        return Reference(latents, self._before.for_views(cameras, render.reference, progress))

    def formula(self, views: Views) -> Judgement:
        before = views.reference
        assert before is not None
        noisy = views.alpha * before.latents + views.sigma * views.noise
        then = self.guided(replace(views, conditionings=before.conditionings), noisy)
        return self.weighted(views, self.guided(views, views.noisy) - then)


def build(config: Config, prior: Prior, prompts: Prompts) -> DDS:
    """Build the rule from its settings; `compare_with` must follow."""
    return DDS(config, prior, prompts)
