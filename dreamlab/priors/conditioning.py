"""One tensor for all that a prompt tells a denoiser: the tokens, and what pools them.

Several families read, beside the tokens' features `[T D]`, one pooled vector `[q]` of the whole
text (SDXL, SD3, FLUX). It travels as further rows below the tokens, filled up with zeros:

    packed = [ token_1; ...; token_T; pooled, 0 ... 0 ]        `[T + ceil(q / D)  D]`

so that everything done to conditionings (caching, mixing those of neighbouring views, stacking
them for one call) is done to both alike, and nobody above this folder knows of the pooled part.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad


def pack(
    tokens: Float[Tensor, "prompts tokens features"], pooled: Float[Tensor, "prompts pooled"]
) -> Float[Tensor, "prompts rows features"]:
    """Return tokens and pooled vector as one tensor; linear in both."""
    features = tokens.shape[-1]
    filled = pad(pooled, (0, -pooled.shape[-1] % features)).to(tokens.dtype)
    return torch.cat([tokens, filled.unflatten(-1, (-1, features))], dim=1)


def unpack(
    packed: Float[Tensor, "batch rows features"], width: int
) -> tuple[Float[Tensor, "batch tokens features"], Float[Tensor, "batch pooled"]]:
    """Return what `pack` joined.

    Args:
        packed: of any number of tokens.
        width: q, numbers of the pooled vector.
    """
    rows = -(-width // packed.shape[-1])
    return packed[:, :-rows], packed[:, -rows:].flatten(1)[:, :width]
