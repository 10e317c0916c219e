"""Variational score distillation (VSD).

    g = w(t) (eh(z_t, t, y_view) - e_phi(z_t, t, y, c)),        eh = e_0 + s (e_y - e_0)

Glossary: y_view the prompt with words for the view, y without; c the camera; e_phi the score of the
pictures that are rendered, learned on the way. Other letters, normalisation: `guidance.base`; image
space: `guidance.rule`; guidance by s: `guidance.guided`; what e_phi is: `priors.learned`.

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
from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance.prompts import Prompts
from dreamlab.guidance.rule import GuidedConfig, GuidedRule, Judgement, Views
from dreamlab.guidance.timesteps import draw_alike
from dreamlab.priors.base import Latents, Prior
from dreamlab.priors.learned import Adaptable, LearnedScore, LoraConfig, Poses, denoising_loss
from dreamlab.priors.multi_view import group_size

SCORE, OPTIMIZER = "score.", "optimizer."
"""Prefixes of what is learned and of its moments in the state."""


@dataclass(frozen=True, slots=True)
class Config(GuidedConfig):
    """Settings of variational score distillation; guidance is of the pretrained score alone."""

    learned_model: str | None = None
    """A second model (alias, folder or hub id) whose network the learned score changes, with the
    latents and the noise of the prior; none: the prior itself, which is in memory once."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters that the learned score consists of."""
    learning_rate: Scalar = 1e-4
    """AdamW's, for the learned score, which is trained at all noise levels."""
    learning_steps: int = 1
    """Training steps of the learned score after each judgement, each with fresh noise."""
    camera_dropout: Scalar = 0.1
    """Probability with which a view's camera is hidden in training."""

    def __post_init__(self) -> None:
        GuidedConfig.__post_init__(self)
        if self.learning_steps < 1:
            raise ValueError(f"learning_steps must be at least 1, got {self.learning_steps}")
        check_within("camera_dropout", self.camera_dropout, 0.0, 1.0)
        check_within("learning_rate", self.learning_rate, 0.0)


@dataclass(frozen=True, slots=True)
class _Learned:
    """What `begin` makes."""

    score: LearnedScore
    optimizer: torch.optim.AdamW
    plain: Prompts


class VSD(GuidedRule[Config]):
    """Variational score distillation with one prior and one prompt; satisfies `Learning`."""

    _begun: _Learned | None = None

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

    def formula(self, views: Views) -> Judgement:
        assert views.cameras is not None
        plain, poses = self._plain(views.cameras, views.progress), poses_of(views.cameras)
        with torch.no_grad():
            learned = self.score.predict(views.noisy, views.t, plain, poses).eps
        return self.weighted(views, self.guided(views, views.noisy) - learned)

    def study(
        self, latents: Latents, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> dict[str, float]:
        steps = range(self.config.learning_steps)
        errors = [self.learn(latents, cameras, progress, generator) for _ in steps]
        return {"learned_error": sum(errors) / len(errors)}

    def learn(
        self, latents: Latents, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> float:
        """Take one training step of the learned score; return its mean squared error a value.

        Args:
            latents: z of the renders; no gradient is sent to them.
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
