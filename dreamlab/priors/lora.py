"""A learned score by low-rank adapters on the prior's own network, and an embedding of the camera.

    W x  ->  W x + scale B A x          in the attention projections
    emb  ->  emb + M(c)                 emb the embedding of the time

Glossary: W a frozen weight; A `[rank in]`, B `[out rank]` trained; c the 12 numbers of a camera; M
a network of two layers. B and the last layer of M begin at zero, so the learned score begins as the
pretrained one.

There is one network in memory. Adapters and camera are switched on for the learned score and off
otherwise; off, the network computes what it computed before, bit for bit.

A network with classes adds their embedding to that of the time. M(c) is added at the same place by
a hook on the module that embeds the time, so nothing in the network is replaced, networks that were
made without classes have it too, and transformers are no other case than U-Nets.

Adapters and M are float32 whatever the network's precision.

Source: Hu et al., LoRA (2022); as an estimator of the rendered score, with the camera beside the
time, Wang et al., ProlificDreamer (2023). There M begins at random.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.priors.base import Latents, Prediction, in_parts
from dreamlab.priors.learned import POSE_NUMBERS, LoraConfig, Poses

Denoise = Callable[[Tensor, Tensor, Tensor], Prediction]
TIME_EMBEDDINGS = ("time_embedding", "timestep_embedder", "time_embedder")
"""Names under which networks of diffusers keep the module that embeds the time."""


class LoraScore:
    """The prior's network with adapters of its own; satisfies `LearnedScore`.

    Several of them may share a network.
    """

    def __init__(
        self,
        network: nn.Module,
        denoise: Denoise,
        parametrisation: str,
        config: LoraConfig,
        generator: torch.Generator,
        *,
        max_rows: int | None = None,
    ) -> None:
        """Put adapters into `network`, switched off.

        Args:
            network: frozen.
            denoise: one call of the network, (noisy, t, conditioning) -> prediction, with gradient.
            parametrisation: what the network predicts.
            config: rank, scale and targets.
            generator: draws A and the first layer of M; on the CPU.
            max_rows: latents that the network gets in one call; None: all at once.

        Raises:
            InputError: the network lacks the layers that are to be changed, or embeds no time.
        """
        self.parametrisation, self.max_rows = parametrisation, max_rows
        self._denoise = denoise
        self._device = next(network.parameters()).device
        self._embedders = _time_embedders(network)
        (width,) = {module.linear_2.out_features for module in self._embedders}
        with torch.random.fork_rng(devices=[]):  # initial values are drawn below
            self._name = _inject(network, config)
            self.camera = nn.Sequential(
                nn.Linear(POSE_NUMBERS, width), nn.SiLU(), nn.Linear(width, width)
            ).to(self._device)
        self._layers = _adapted_layers(network)
        self._weights = {
            f"{layer}.{part}": getattr(module, f"lora_{part}")[self._name].float().weight
            for layer, module in self._layers.items()
            if self._name in module.lora_A
            for part in ("A", "B")
        }
        self._weights |= {f"camera.{name}": p for name, p in self.camera.named_parameters()}
        self._draw(generator)
        self._switch_off()

    def _draw(self, generator: torch.Generator) -> None:
        """Set A and the first layer of M to U(-1, 1) / sqrt(inputs), all else to zero."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                if name.endswith(".A") or name.startswith("camera.0."):
                    bound = POSE_NUMBERS**-0.5 if weight.ndim == 1 else weight.shape[1] ** -0.5
                    uniform = torch.rand(weight.shape, generator=generator)
                    weight.copy_(bound * (2 * uniform - 1))
                else:
                    weight.zero_()

    def predict(
        self,
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
        poses: Poses,
    ) -> Prediction:
        return in_parts(self._predict, self.max_rows, noisy, t, conditioning, poses)

    def _predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor, poses: Tensor) -> Prediction:
        embedded = self.camera(poses.to(self._device))
        with self._switched_on(embedded):
            return self._denoise(noisy, t, conditioning)

    @contextmanager
    def _switched_on(self, embedded: Float[Tensor, "batch width"]) -> Iterator[None]:
        def add_camera(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            return output + embedded.to(output.dtype)

        hooks = [module.register_forward_hook(add_camera) for module in self._embedders]
        for layer in self._layers.values():
            layer.set_adapter(self._name)
            layer.enable_adapters(True)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._switch_off()

    def _switch_off(self) -> None:
        for layer in self._layers.values():
            layer.enable_adapters(False)
            # that froze the adapters too, and a backward pass that is still to come would skip them
            for part in (layer.lora_A, layer.lora_B):
                part.requires_grad_(True)

    def parameters(self) -> list[nn.Parameter]:
        return list(self._weights.values())

    def state(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self._weights.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        shapes = {name: weight.shape for name, weight in self._weights.items()}
        if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
            raise InputError(
                "the saved LoRA does not fit the network.",
                "use the model, the rank and the targets that it was saved with.",
            )
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(tensors[name])


def _inject(network: nn.Module, config: LoraConfig) -> str:
    """Put adapters into a network and return their name, which is new to it."""
    import peft

    name = f"learned_{len(getattr(network, 'peft_config', {}))}"
    alpha: Any = config.scale * config.rank  # peft calls it whole, and divides it by the rank
    settings = peft.LoraConfig(r=config.rank, lora_alpha=alpha, target_modules=list(config.targets))
    try:
        with warnings.catch_warnings():  # adapters of another score are no mistake
            warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
            peft.inject_adapter_in_model(settings, network, name)
    except ValueError as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"no LoRA can be put into the model's network: {line}",
            f"set the guidance's lora.targets (now {', '.join(config.targets)}) to the names of "
            "its attention projections.",
        ) from None
    return name


def _adapted_layers(network: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: m for name, m in network.named_modules() if isinstance(m, LoraLayer)}


def _time_embedders(network: nn.Module) -> list[Any]:
    """Find the modules that embed the time; a network of blocks may have one in each.

    Raises:
        InputError: there is none.
    """
    found = [
        module
        for name, module in network.named_modules()
        if name.rpartition(".")[2] in TIME_EMBEDDINGS and hasattr(module, "linear_2")
    ]
    if not found:
        raise InputError(
            f"the network {type(network).__name__} has no embedding of the time that a camera "
            "could be added to.",
            "use another model for guidance that learns.",
        )
    return found
