"""Semantic score distillation: every object of a layout is judged by its own prompt where it is.

    e_y = m_0 e_{y_0} + sum_k m_k e_{y_k},         m_0 + sum_k m_k = 1 at every latent

takes the place of e_y in whatever rule there is, with its push (Perp-Neg) and, if it repeats the
prompt, its negative prompt. t, eps and z_t are common to all prompts, so for SDS

    g = w (e_0 + s (e_y - e_0) - eps) = m_0 g_0 + sum_k m_k g_k,

the sum of the gradients of single prompts over a partition of the picture. All predictions are of
one U-Net call; e_0 is evaluated once, so a view costs K + 2 rows in place of 2.

Glossary: K objects, y_k their prompts with words for the side that the object turns to the camera,
y_0 the prompt of the scene; a_k share of object k in a latent, the mean over its pixels of
`Render.regions`; D_k the largest a_k within the margin; lambda the scene's share.

    b_k = a_k + (1 - sum_j a_j) D_k / max(1, sum_j D_j)     objects grow into what is empty
    m_k = (1 - lambda) b_k,   m_0 = 1 - sum_k m_k           all objects are shown
    m_k = b_k + (1 - sum_j b_j) / n,   m_0 = 0              n objects are shown without the others

An object that is shown alone so has the whole picture. Masks take no gradient. The view words of an
object follow from where the camera is in its own frame, in which its front is at azimuth 0.

Source: SemanticSDS (Yang et al. 2024), equations 8 to 10 and section 3.4. Its sum of m_k g_k is
divided by the number of prompts, which weakens guidance with every object; a partition needs no
such factor. Its masks are one-hot; where objects meet within a latent ours are mixed.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

from dreamlab.core.cameras import Cameras
from dreamlab.core.layout import Box, Layout
from dreamlab.core.regions import turned
from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance.prompts import PromptConfig, Prompts, ViewConditionings
from dreamlab.priors.base import Prior

Masks = Float[Tensor, "batch objects height width"]
Shares = Float[Tensor, "batch prompts height width"]


@dataclass(frozen=True, slots=True)
class SemanticConfig:
    """How the prompts of a layout's objects are mixed with that of the scene."""

    scene_share: Scalar = 0.0
    """Share that the scene's prompt has where objects are, in [0, 1]; what is empty is its own."""
    margin: float = 1 / 32
    """How far objects reach into what is empty, as a share of the picture's width."""

    def __post_init__(self) -> None:
        for name in ("scene_share", "margin"):
            check_within(name, getattr(self, name), 0.0, 1.0)


class SemanticPrompts(Prompts):
    """Embeddings of the scene's prompt and of those of its objects, each for all views."""

    def __init__(
        self,
        scene: Prompts,
        objects: list[Prompts],
        layout: Layout,
        semantic: SemanticConfig,
        latent_size: int,
    ) -> None:
        """Put together what was encoded.

        Args:
            scene: the prompt of the whole.
            objects: one for each box of the layout.
            layout: where the objects are.
            semantic: how they are mixed.
            latent_size: height and width of the prior's latents.
        """
        super().__init__(
            scene.views,
            scene.negative,
            scene.empty,
            scene.config,
            scene.negative_views,
            scene.prior,
        )
        self.objects, self.layout, self.semantic = objects, layout, semantic
        self.latent_size = latent_size

    @classmethod
    def of_layout(
        cls,
        prior: Prior,
        layout: Layout,
        prompt: str,
        negative: str,
        config: PromptConfig,
        semantic: SemanticConfig,
        cache_dir: Path | None = None,
    ) -> "SemanticPrompts":
        """Embed every text that will be needed; arguments as for `Prompts.encode`.

        Args:
            layout: the objects; boxes may have view words of their own.
            prompt: of the scene.
            semantic: how the prompts are mixed.
        """
        told = [(prompt, config)]
        told += [(box.prompt, replace(config, **box.views)) for box in layout.boxes]
        beside = [text for own, words in told for text in words.texts(own, negative)]
        scene, *objects = (
            Prompts.encode(prior, own, negative, words, cache_dir, beside) for own, words in told
        )
        return cls(scene, objects, layout, semantic, prior.latent_size)

    def texts_for(
        self, cameras: Cameras, render: Render | None = None, progress: float | None = None
    ) -> ViewConditionings:
        """Return what the prior is to be told for each of these views, and where.

        Args:
            cameras: of the views, in the world.
            render: has `regions` and `shown`.
            progress: fraction of the stage that is done, for a `scene_share` that is a schedule.

        Raises:
            ValueError: it has not, or there is no progress where it is needed.
        """
        if render is None or render.regions is None or render.shown is None:
            raise ValueError("prompts of objects need a render with regions")
        shown = list(render.shown)
        parts = [
            self.objects[k].texts_for(cameras_about(self.layout.boxes[k], cameras)) for k in shown
        ]
        if len(parts) == 1:
            return parts[0]
        with_scene = num_prompts(len(shown), len(self.objects)) > len(shown)
        masks = latent_masks(render.regions[..., shown], self.latent_size, self.semantic.margin)
        if with_scene:
            parts.append(super().texts_for(cameras))
        share = value_at(self.semantic.scene_share, progress) if with_scene else None
        shares = prompt_shares(masks, share)
        repeats = self.negative_views is not None
        return _joined(parts, shares.to(self.views), repeats=repeats)


def num_prompts(num_shown: int, num_objects: int) -> int:
    """Return how many prompts share a view: those of the objects shown, and the scene's with all.

    An object that is shown alone has the view alone.
    """
    return num_shown if num_shown == 1 else num_shown + (num_shown == num_objects)


def _joined(parts: list[ViewConditionings], shares: Shares, *, repeats: bool) -> ViewConditionings:
    """Put the prompts of a view side by side; `repeats`: negative prompts repeat them."""
    first = parts[0]
    return ViewConditionings(
        positive=torch.cat([part.positive for part in parts], dim=1),
        negative=torch.cat([p.negative for p in parts], dim=1) if repeats else first.negative,
        empty=first.empty,
        away=torch.cat([part.away for part in parts], dim=1),
        away_weights=torch.cat([part.away_weights for part in parts], dim=1),
        shares=shares,
    )


@torch.no_grad()
def latent_masks(
    regions: Float[Tensor, "batch rows columns objects"], size: int, margin: float
) -> Masks:
    """Return b_k, the shares of the objects in each latent, grown into what is empty.

    Args:
        regions: soft masks of the objects shown, summing to the opacity.
        size: height and width of the latents.
        margin: how far they grow, as a share of the picture's width.

    Returns:
        `[B K size size]`, >= 0, summing to at most 1.
    """
    a = adaptive_avg_pool2d(regions.permute(0, 3, 1, 2).clamp(0, 1), size)
    a = a / a.sum(dim=1, keepdim=True).clamp(min=1)
    reach = round(margin * size)
    if reach == 0:
        return a
    near = max_pool2d(a, 2 * reach + 1, stride=1, padding=reach)
    empty = 1 - a.sum(dim=1, keepdim=True)
    return a + empty * near / near.sum(dim=1, keepdim=True).clamp(min=1)


def prompt_shares(masks: Masks, scene_share: float | None) -> Shares:
    """Return m_k, and m_0 after them if the scene has a share; they sum to 1.

    Args:
        masks: b_k.
        scene_share: lambda; None: the scene's prompt is not used.
    """
    if scene_share is None:
        rest = 1 - masks.sum(dim=1, keepdim=True)
        return masks + rest / masks.shape[1]
    m = (1 - scene_share) * masks
    return torch.cat([m, 1 - m.sum(dim=1, keepdim=True)], dim=1)


def cameras_about(box: Box, cameras: Cameras) -> Cameras:
    """Return the cameras with azimuth, elevation and distance as an object in a box has them.

    Azimuth 0 sees the object's front, wherever that points to; the cameras stay where they are.
    """
    offset = cameras.position - cameras.position.new_tensor(box.center)
    x, y, z = turned(offset, offset.new_tensor(-box.facing)).unbind(dim=-1)
    azimuth = torch.rad2deg(torch.atan2(y, x))
    return replace(
        cameras,
        azimuth=(azimuth + 180) % 360 - 180,
        elevation=torch.rad2deg(torch.atan2(z, torch.hypot(x, y))),
        distance=offset.norm(dim=-1),
    )
