"""Pictures on surfaces: texels at texture coordinates, with gradients to both.

Texel (i, j) of a texture of H x W covers v in [i / H, (i + 1) / H] and u in [j / W, (j + 1) / W],
so row 0 lies at v = 0 (nvdiffrast's convention; a picture with its top row first is flipped by who
loads it). Between texel centres values are bilinear; beyond the outermost centres they are clamped.
At level l > 0 the texture is first averaged over blocks of 2^l texels; between whole levels the
result is linear in l.

The reference is made of torch's own kernels and as fast as they are, so it is the portable one too.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve


def texture(
    tex: Float[Tensor, "textures height_t width_t channels"],
    uv: Float[Tensor, "batch height width 2"],
    level: Float[Tensor, "batch height width"] | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "batch height width channels"]:
    """Sample a texture; see the module docstring.

    Args:
        tex: one texture, or one per view.
        uv: in [0, 1].
        level: number of halvings of the texture that make its texels as large as pixels; 0 or less
            for the texture itself.
        backend: `reference`, or `nvdiffrast` (float32, CUDA; with `level`, sides of the texture
            are powers of two).

    Raises:
        InputError: there are neither one nor as many textures as views.

    Gradients:
        To `tex`, and to `uv` and `level` almost everywhere.
    """
    if len(tex) not in (1, len(uv)):
        raise InputError(
            f"{len(tex)} textures cannot be seen in {len(uv)} views.",
            "give one texture, or one per view.",
        )
    if resolve("texture", backend, tex.device) == "nvdiffrast":
        from dreamlab.ops.triangles.nvdiffrast import texture as implementation

        return implementation(tex, uv, level)
    picture = tex.permute(0, 3, 1, 2).expand(len(uv), -1, -1, -1)
    grid = 2 * uv - 1
    if level is None:
        return _sample(picture, grid)
    last = max(0, min(tex.shape[1:3]).bit_length() - 1)
    level = level.clamp(0, last)[..., None]
    result = torch.zeros_like(uv[..., :1])
    for whole in range(last + 1):
        share = (1 - (level - whole).abs()).clamp(min=0)
        if whole > 0:
            picture = avg_pool2d(picture, 2, ceil_mode=True)
        if bool((share > 0).any()):
            result = result + share * _sample(picture, grid)
    return result


def _sample(picture: Tensor, grid: Tensor) -> Tensor:
    sampled = grid_sample(
        picture, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.permute(0, 2, 3, 1)
