"""Variational score distillation (VSD).

    z = E(render),   z_t = alpha z + sigma eps,   eh = e_0 + s (e_y - e_0)
    g = w(t) (eh(z_t, t, y_view) - e_phi(z_t, t, y, c)),        dL/dz = g / B

Glossary: y_view the prompt with words for the view, y without; c the camera; e_phi the score of the
pictures that are rendered, learned on the way. Other letters, normalisation: `guidance.base`;
guidance by s: `guidance.guided`; what e_phi is: `priors.learned`.

SDS asks for a render at a mode of the prior, VSD for renders that are distributed as the prior is.
If the score of the renders were known, g would vanish where the two distributions agree; it is SDS
where the renders are a single picture without any spread, for then e_phi = eps. So e_phi takes the
place of the noise, and guidance as low as that of sampling (s = 7.5) is enough.

A call first judges with e_phi as it is, then trains e_phi on the same latents:

    z' = sg(z),   t' ~ U(0, 1),   eps' ~ N(0, 1),   c' = c, or 0 with probability `camera_dropout`
    phi <- AdamW(phi, gradient of || e_phi(alpha z' + sigma eps', t', y, c') - eps' ||^2)

(in the network's own parametrisation). The prompt without guidance and without view words is what
e_phi hears; the view reaches it through the camera alone. Its network is the prior's own, or that
of a second model of the same latents and noise, whatever that one predicts.

Source: Wang et al., ProlificDreamer (2023), algorithm 1; one network for both scores, and dropout
of the camera, as in threestudio.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.moments import load_moments, moments
from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance import base
from dreamlab.guidance.guided import GUIDED, Group, guided_noise
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.timesteps import TimestepConfig, draw_alike, sample_timesteps
from dreamlab.guidance.weighting import Weighting, weight
from dreamlab.priors.base import Latents, Prior
from dreamlab.priors.footprint import Coding
from dreamlab.priors.learned import Adaptable, LearnedScore, LoraConfig, Poses, denoising_loss
from dreamlab.priors.multi_view import group_size

SCORE, OPTIMIZER = "score.", "optimizer."
"""Prefixes of what is learned and of its moments in the state."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of variational score distillation."""

    guidance_scale: Scalar = 7.5
    """s in e_0 + s (e_y - e_0), for the pretrained score alone."""
    weighting: Weighting = "sds"
    """w(t), as for `sds`."""
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)
    """Which noise levels are judged when; the learned score is trained on all of them."""
    learned_model: str | None = None
    """A second model (alias, folder or hub id) whose network the learned score changes, with the
    latents and the noise of the prior; none: the prior itself, which is in memory once."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters that the learned score consists of."""
    learning_rate: Scalar = 1e-4
    """AdamW's, for the learned score."""
    learning_steps: int = 1
    """Training steps of the learned score after each judgement, each with fresh noise."""
    camera_dropout: Scalar = 0.1
    """Probability with which a view's camera is hidden in training."""

    def __post_init__(self) -> None:
        if self.learning_steps < 1:
            raise ValueError(f"learning_steps must be at least 1, got {self.learning_steps}")
        check_within("camera_dropout", self.camera_dropout, 0.0, 1.0)
        check_within("learning_rate", self.learning_rate, 0.0)

    @property
    def widest(self) -> tuple[Group, ...]:
        """Groups of conditionings in the rule's widest call of the denoiser."""
        return GUIDED

    @property
    def codings(self) -> tuple[Coding, ...]:
        """What a step asks of the autoencoder."""
        return ("encode", "back")


@dataclass(frozen=True, slots=True)
class _Learned:
    """What `begin` makes."""

    score: LearnedScore
    optimizer: torch.optim.AdamW
    plain: Prompts


class VSD:
    """Variational score distillation with one prior and one prompt; satisfies `Learning`."""

    def __init__(self, config: Config, prior: Prior, prompts: Prompts) -> None:
        self.config, self.prior, self.prompts = config, prior, prompts
        self._begun: _Learned | None = None

    @property
    def learned_model(self) -> str | None:
        return self.config.learned_model

    def begin(self, learner: Prior, plain: Prompts, generator: torch.Generator) -> None:
        if not isinstance(learner, Adaptable):
            raise InputError(
                f"the model {learner.name} has no score that could be trained, as vsd needs.",
                "use another model, or guidance that trains nothing (name: sds).",
            )
        score = learner.learned_score(self.config.lora, generator)
        optimizer = torch.optim.AdamW(score.parameters(), lr=0.0, fused=True)
        self._begun = _Learned(score, optimizer, plain)

    @property
    def _learned(self) -> _Learned:
        if self._begun is None:
            raise ValueError("call begin() first: it makes the score that is to be learned")
        return self._begun

    @property
    def score(self) -> LearnedScore:
        """The score of the renders, e_phi."""
        return self._learned.score

    @torch.no_grad()
    def judge(
        self,
        latents: Latents,
        t: Float[Tensor, " batch"],
        noise: Latents,
        cameras: Cameras,
        progress: float,
        render: Render | None = None,
    ) -> Latents:
        """Return g for given times and noise; view by view, and nothing is learned.

        Args:
            latents: z.
            t: times, one a view.
            noise: eps.
            cameras: of the views.
            progress: fraction of the stage that is done, in [0, 1].
            render: what is seen, for prompts of objects.
        """
        alpha, sigma = self.prior.alpha_sigma(t)
        noisy = alpha * latents + sigma * noise
        guided = guided_noise(
            self.prior,
            noisy,
            t,
            self.prompts.for_views(cameras, render, progress),
            scale=value_at(self.config.guidance_scale, progress),
        )
        plain = self._plain(cameras, progress)
        learned = self.score.predict(noisy, t, plain, poses_of(cameras)).eps
        return weight(self.config.weighting, alpha, sigma) * (guided - learned)

    def learn(
        self, latents: Latents, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> float:
        """Take one training step of the learned score; return its mean squared error a value.

        Args:
            latents: of the renders; no gradient is sent to them.
            cameras: of the renders.
            progress: fraction of the stage that is done, in [0, 1].
            generator: on the CPU; draws times, noise and dropout.
        """
        latents, device = latents.detach(), latents.device
        together = group_size(self.prior, len(latents))
        t = draw_alike(len(latents), together, generator).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        dropout = value_at(self.config.camera_dropout, progress)
        is_hidden = torch.rand(len(latents), generator=generator) < dropout
        poses = poses_of(cameras).masked_fill(is_hidden[:, None].to(cameras.fov_y.device), 0.0)
        alpha, sigma = self.prior.alpha_sigma(t)
        optimizer = self._learned.optimizer
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            predicted = self.score.predict(
                alpha * latents + sigma * noise, t, self._plain(cameras, progress), poses
            )
            loss = denoising_loss(
                self.score.parametrisation, predicted, latents, noise, alpha, sigma
            )
            loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = value_at(self.config.learning_rate, progress)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item() / latents[0].numel()

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> base.GuidanceOutput:
        latents = self.prior.encode_image(render.rgb, generator)
        z = latents.detach()
        together = group_size(self.prior, len(z))
        t = sample_timesteps(self.config.timesteps, progress, len(z), generator, together)
        t = t.to(z.device)
        noise = torch.randn(z.shape, generator=generator).to(z.device)
        gradient = self.judge(z, t, noise, cameras, progress, render)
        errors = [
            self.learn(z, cameras, progress, generator) for _ in range(self.config.learning_steps)
        ]
        metrics = {"t": t.mean().item(), "learned_error": sum(errors) / len(errors)}
        loss = base.distillation_loss(latents, gradient)
        return base.GuidanceOutput(loss, metrics | base.gradient_metrics(gradient))

    def _plain(self, cameras: Cameras, progress: float) -> Float[Tensor, "batch tokens features"]:
        return self._learned.plain.for_views(cameras, progress=progress).positive[:, 0]

    def parameters(self) -> list[nn.Parameter]:
        return self.score.parameters()

    def state(self) -> dict[str, Tensor]:
        parts = {SCORE: self.score.state(), OPTIMIZER: moments(self._learned.optimizer)}
        return {prefix + name: t for prefix, part in parts.items() for name, t in part.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }

        self.score.load_state(part(SCORE))
        load_moments(self._learned.optimizer, part(OPTIMIZER))


def poses_of(cameras: Cameras) -> Poses:
    """Return the upper three rows of the camera-to-world matrices, row by row."""
    return cameras.camera_to_world[:, :3].flatten(1)


def build(config: Config, prior: Prior, prompts: Prompts) -> VSD:
    """Build the rule from its settings; `begin` must follow."""
    return VSD(config, prior, prompts)
