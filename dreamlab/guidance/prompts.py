"""What the prior is told about each view: the prompt, with words for where the camera stands.

If the prior has an image prompt, the prompts for views see its picture, right views and wrong ones;
the negative prompt and the empty one do not. How much it says may follow the stage.

Glossary: B views; V = 4 view words in the order front, side, back, overhead; T tokens; D features.

A view is overhead when its elevation is above `overhead_elevation`; else front when its azimuth is
within `front_angle` of 0, back when it is within `back_angle` of 180, and side otherwise. Instead
of choosing one word, embeddings may be mixed by azimuth: front to side over |azimuth| 0 to 90, side
to back over 90 to 180 (overhead stays a choice).

A multi-view prior (`priors.multi_view`) is told the cameras themselves, below the tokens of every
prompt. Then words for the view, and pushing away from wrong ones, are not needed; they work all the
same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.guidance.perp_neg import away_weights
from dreamlab.priors.base import Prior
from dreamlab.priors.controlnet import Control
from dreamlab.priors.image_prompt import with_sight
from dreamlab.priors.long_prompts import num_pieces
from dreamlab.priors.multi_view import MultiView
from dreamlab.priors.text_cache import encode_cached

FRONT, SIDE, BACK, OVERHEAD = range(4)


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """How the prompt depends on the view."""

    view: Literal["none", "words", "interpolate", "perp_neg"] = "words"
    """`none`: the same prompt for all views; `words`: the word of the view's bin; `interpolate`:
    embeddings mixed by azimuth; `perp_neg`: mixed, and pushed away from the wrong views."""
    template: str = "{prompt}, {view}"
    """How prompt and view word are joined; "{view} of {prompt}" is the other usual form."""
    negative: str | None = None
    """Negative prompt of this stage; `{prompt}` in it stands for the prompt, and then it is joined
    with the view word too; none: the run's negative prompt."""
    front: str = "front view"
    """Word for views of the front."""
    side: str = "side view"
    """Word for views of either side."""
    back: str = "back view"
    """Word for views of the back."""
    overhead: str = "overhead view"
    """Word for views from above."""
    front_angle: float = 45.0
    """Views within so many degrees of the front are front views."""
    back_angle: float = 45.0
    """Views within so many degrees of the back are back views."""
    overhead_elevation: float = 60.0
    """Views from above this elevation, degrees, are overhead views."""

    def __post_init__(self) -> None:
        if "{prompt}" not in self.template or "{view}" not in self.template:
            raise ValueError(
                f"template must contain {{prompt}} and {{view}}, got {self.template!r}"
            )
        angles = (self.front_angle, self.back_angle)
        if min(angles) < 0 or sum(angles) > 180:
            raise ValueError(
                f"front_angle and back_angle must be >= 0 and at most 180 together, got {angles}"
            )

    def phrase(self, prompt: str, view: str) -> str:
        """Join a prompt and a view word."""
        return self.template.replace("{view}", view).replace("{prompt}", prompt)

    def phrases(self, prompt: str) -> list[str]:
        """Join a prompt with each of the four view words, if it depends on the view."""
        words = (self.front, self.side, self.back, self.overhead)
        return [prompt if self.view == "none" else self.phrase(prompt, word) for word in words]

    @property
    def repeats_prompt(self) -> bool:
        """Whether there is a negative prompt for each prompt and each view."""
        return self.negative is not None and "{prompt}" in self.negative

    def texts(self, prompt: str, negative: str) -> list[str]:
        """List all texts that the prior is told: the prompt for the four view words, the negative
        prompt and the empty one; then, if it repeats the prompt, the negative for the words.

        Args:
            prompt: what to make.
            negative: what to avoid, if the settings do not name another one.
        """
        if self.negative is not None:
            negative = self.negative.replace("{prompt}", prompt)
        return [
            *self.phrases(prompt),
            negative,
            "",
            *(self.phrases(negative) if self.repeats_prompt else []),
        ]


@dataclass(frozen=True, slots=True)
class ViewConditionings:
    """Embeddings for one batch of views, each `[B n T D]`.

    Usually one prompt speaks for all of a view. With several (`semantic.py`), n of them, each
    speaks for its share of every latent.
    """

    positive: Float[Tensor, "batch prompts tokens features"]
    """The prompts as seen from the view."""
    negative: Float[Tensor, "batch negatives tokens features"]
    """The negative prompt, which is the empty one if none was given; if it repeats the prompt, of
    the view and one for each prompt."""
    empty: Float[Tensor, "batch 1 tokens features"]
    """The empty prompt."""
    away: Float[Tensor, "batch variants tokens features"]
    """Prompts of wrong views, prompt by prompt: front and side with Perp-Neg, otherwise none."""
    away_weights: Float[Tensor, "batch variants"]
    """Their weights, <= 0."""
    shares: Float[Tensor, "batch prompts height width"] | None = None
    """How much of each latent is each prompt's, summing to 1; None for one prompt."""
    control: Control | None = None
    """What ControlNets are shown of the views; the same for all prompts."""


def view_index(cameras: Cameras, config: PromptConfig) -> Int[Tensor, " batch"]:
    """Return FRONT, SIDE, BACK or OVERHEAD for every camera."""
    turn = cameras.azimuth.abs()
    index = torch.full_like(turn, SIDE, dtype=torch.long)
    index[turn < config.front_angle] = FRONT
    index[turn > 180 - config.back_angle] = BACK
    index[cameras.elevation > config.overhead_elevation] = OVERHEAD
    return index


def view_mixture(cameras: Cameras, config: PromptConfig) -> Float[Tensor, "batch 4"]:
    """Return how much of each view word's embedding a view gets; rows sum to 1."""
    index = view_index(cameras, config)
    chosen = functional.one_hot(index, 4).to(cameras.azimuth.dtype)
    if config.view in ("none", "words"):
        return chosen
    turn = cameras.azimuth.abs() / 90
    front, back = (1 - turn).clamp(min=0), (turn - 1).clamp(min=0)
    mixed = torch.stack([front, 1 - front - back, back, torch.zeros_like(turn)], dim=-1)
    return torch.where((index == OVERHEAD)[:, None], chosen, mixed)


class Prompts:
    """Embeddings of a prompt for all views, of its negative prompt and of the empty prompt."""

    def __init__(
        self,
        views: Float[Tensor, "4 tokens features"],
        negative: Float[Tensor, "tokens features"],
        empty: Float[Tensor, "tokens features"],
        config: PromptConfig,
        negative_views: Float[Tensor, "4 tokens features"] | None = None,
        prior: Prior | None = None,
    ) -> None:
        """Keep embeddings; `prior` is who is told more of a view than texts, if that is more."""
        self.views, self.negative, self.empty = views, negative, empty
        self.config, self.negative_views = config, negative_views
        self.prior = prior

    @classmethod
    def encode(
        cls,
        prior: Prior,
        prompt: str,
        negative: str,
        config: PromptConfig,
        cache_dir: Path | None = None,
        beside: Sequence[str] = (),
    ) -> "Prompts":
        """Embed every text that will be needed, then free the prior's text encoder.

        Args:
            negative: what the picture must not show; "" for nothing in particular. The settings
                may name another one.
            cache_dir: where embeddings are kept between runs; None keeps nothing.
            beside: other texts that a view is told of, whose embeddings must be as long.
        """
        texts = config.texts(prompt, negative)
        embeddings = encode_cached(prior, texts, cache_dir, num_pieces(prior, beside))
        prior.release_text_encoder()
        of_views = embeddings[6:] if len(texts) > 6 else None
        return cls(embeddings[:4], embeddings[4], embeddings[5], config, of_views, prior)

    def for_views(
        self, cameras: Cameras, render: Render | None = None, progress: float | None = None
    ) -> ViewConditionings:
        """Return what the prior is to be told for each of these views.

        Args:
            cameras: of the views; a multi-view prior is told them too.
            render: what is seen; prompts of objects (`semantic.py`) need to know who is where.
            progress: fraction of the stage that is done, in [0, 1]; schedules of what is told or
                shown need it.
        """
        texts = self.texts_for(cameras, render, progress)
        prior = self.prior
        if prior is None:
            return texts

        def told(
            conditionings: Float[Tensor, "batch _variants _tokens features"], *, sees_image: bool
        ) -> Float[Tensor, "batch _variants _rows features"]:
            if isinstance(prior, MultiView):
                conditionings = prior.with_cameras(conditionings, cameras)
            return with_sight(prior, conditionings, progress, sees_image=sees_image)

        return replace(
            texts,
            positive=told(texts.positive, sees_image=True),
            negative=told(texts.negative, sees_image=False),
            empty=told(texts.empty, sees_image=False),
            away=told(texts.away, sees_image=True),
        )

    def texts_for(
        self, cameras: Cameras, render: Render | None = None, progress: float | None = None
    ) -> ViewConditionings:
        """Return the embeddings for each of these views; arguments as of `for_views`."""
        num_views, device = len(cameras), self.views.device
        mixture = view_mixture(cameras, self.config).to(device)
        positive = torch.einsum("bv,vtd->btd", mixture, self.views)
        negative = self.negative.expand(num_views, -1, -1)
        if self.negative_views is not None:
            negative = torch.einsum("bv,vtd->btd", mixture, self.negative_views)
        weights = torch.zeros(num_views, 0)
        if self.config.view == "perp_neg":
            is_overhead = view_index(cameras, self.config) == OVERHEAD
            weights = away_weights(cameras.azimuth, is_overhead)
        wrong = self.views[[FRONT, SIDE][: weights.shape[1]]]
        return ViewConditionings(
            positive[:, None],
            negative[:, None],
            self.empty.expand(num_views, 1, -1, -1),
            wrong.expand(num_views, -1, -1, -1),
            weights.to(device),
        )
