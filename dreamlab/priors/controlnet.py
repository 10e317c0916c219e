"""ControlNets: copies of a U-Net's encoder that read a picture and steer the U-Net by it.

    h_i  ->  h_i + sum_k s_k r_ki,        (r_k1, ..., r_kn, r_k mid) = C_k(z_t, t, y, c_k)

Glossary: h_i what the U-Net's encoder hands over to its decoder at level i, and in the middle; C_k
a ControlNet, c_k its picture, s_k its strength; y the text's tokens.

Conventions: pictures are `[3 side side]` in [0, 1], of the side of the pictures that are judged.
Every conditioning of a view gets the same picture, the empty prompt too; so guidance does not push
away from it, and s_k is not multiplied by the guidance scale. No gradient goes through anything
here.

Source: Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models (2023).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.priors.base import Latents, Prediction
from dreamlab.priors.diffusion import LoadOptions, load_model
from dreamlab.priors.folder import read_json
from dreamlab.priors.noise_schedule import NetworkTimes

CLASS = "ControlNetModel"
MUST_AGREE = (
    "in_channels",
    "block_out_channels",
    "layers_per_block",
    "down_block_types",
    "cross_attention_dim",
    "addition_embed_type",
    "projection_class_embeddings_input_dim",
)
"""Keys of the configs of U-Net and ControlNet that say what they read and hand over."""


@dataclass(frozen=True, slots=True)
class Control:
    """What ControlNets are shown of a batch of views, and how much they say."""

    names: tuple[str, ...]
    """Of the ControlNets, as they were loaded."""
    strengths: tuple[float, ...]
    """s_k."""
    pictures: Float[Tensor, "batch controls 3 side side"]
    """c_k of every view, in [0, 1]."""

    def repeated(self, times: int) -> "Control":
        """Return it with the pictures of every view `times` in a row."""
        return replace(self, pictures=self.pictures.repeat_interleave(times, dim=0))


@runtime_checkable
class Controllable(Protocol):
    """A prior that ControlNets can steer."""

    controls: dict[str, Any]
    """Those that were loaded, by name."""

    def predict(
        self,
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
        control: Control | None = None,
    ) -> Prediction:
        """Denoise, without gradient; with `control`, what ControlNets see steers it."""
        ...


def residuals(
    networks: Mapping[str, Any],
    control: Control,
    noisy: Latents,
    time: NetworkTimes,
    tokens: Float[Tensor, "batch tokens features"],
    *,
    added: dict[str, Any],
) -> tuple[list[Tensor], Tensor]:
    """Return sum_k s_k r_ki for all levels, and that for the middle.

    Args:
        networks: by name; of the dtype of `noisy`.
        control: what they are shown, row by row.
        noisy: z_t.
        time: what the schedule calls the time.
        tokens: y.
        added: further conditions of the family.
    """
    totals: list[Tensor] = []
    for index, name in enumerate(control.names):
        down, middle = networks[name](
            noisy,
            time,
            encoder_hidden_states=tokens,
            controlnet_cond=control.pictures[:, index].to(noisy.dtype),
            conditioning_scale=control.strengths[index],
            added_cond_kwargs=added,
            return_dict=False,
        )
        own = [*down, middle]
        totals = [a + b for a, b in zip(totals, own, strict=True)] if totals else own
    return totals[:-1], totals[-1]


def load_control(folder: Path, unet: Any, factor: int, options: LoadOptions) -> Any:
    """Load a ControlNet, frozen, in the precision of the denoiser.

    Args:
        folder: of the ControlNet.
        unet: the U-Net's config.
        factor: pixels of a latent's side.
        options: how the model is loaded.

    Raises:
        InputError: it is no ControlNet, or was made for another U-Net.
        MissingError: a file is missing or damaged.
    """
    _check_control(folder, unet, factor)
    network = load_model(folder.parent, folder.name, CLASS, options, options.precision)
    return network.requires_grad_(False).eval()


def _check_control(folder: Path, unet: Any, factor: int) -> None:
    config = read_json(folder / "config.json")
    if config.get("_class_name") != CLASS:
        raise InputError(
            f"{folder} holds a {config.get('_class_name')}, not a {CLASS}.",
            "name the folder or hub id of a ControlNet in a stage's controls.",
        )
    named = [key for key in MUST_AGREE if key in config]
    differing = [key for key in named if _plain(config[key]) != _plain(unet.get(key))]
    own_factor = 2 ** (len(config.get("conditioning_embedding_out_channels", range(4))) - 1)
    if own_factor != factor:
        differing.append(f"pixels of a latent ({own_factor}, the model's {factor})")
    if differing:
        raise InputError(
            f"the ControlNet {folder} was made for another U-Net: they differ in "
            f"{', '.join(differing)}.",
            "take a ControlNet that was trained on a model of prior.model's kind.",
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
