"""What users bring beside a model, with random weights: checkpoints, LoRA files, IP-Adapters."""

from pathlib import Path

import peft
import torch
from ldm_names import single_file
from safetensors.torch import load_file, save_file

from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.load import PriorConfig, load_prior

SEEN = 20
"""Width of what CLIP pools."""
PATCHES = 24
"""Width of what it sees in a patch."""


def write_single_file(folder: Path, path: Path, shaken: float = 0.0) -> dict[str, torch.Tensor]:
    """Write a Stable Diffusion under its old names; return its weights by the new ones.

    Args:
        folder: of the model.
        path: of the file.
        shaken: by which share of itself each weight is changed.
    """
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    generator = torch.Generator().manual_seed(7)
    weights: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for part in ("unet", "vae", "text_encoder"):
            for name, weight in getattr(pipeline, part).named_parameters():
                weight.mul_(1 + shaken * torch.randn(weight.shape, generator=generator))
                weights[f"{part}.{name}"] = weight.detach().clone()
    save_file(single_file(pipeline), path)
    return weights


def write_lora(folder: Path, path: Path, seed: int, rank: int = 2, layout: str = "peft") -> float:
    """Write a random LoRA of the attention's queries; return its scale alpha / rank."""
    prior = load_prior(PriorConfig(model=str(folder)), "cpu")
    assert isinstance(prior, DiffusionPrior)
    network = prior.network
    config = peft.LoraConfig(r=rank, lora_alpha=3, target_modules=["to_q"], init_lora_weights=False)
    torch.manual_seed(seed)
    peft.inject_adapter_in_model(config, network, "made")
    part = "transformer" if "Transformer" in type(network).__name__ else "unet"
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in peft.get_peft_model_state_dict(network, adapter_name="made").items():
        module, _, letter = name.removesuffix(".weight").rpartition(".lora_")
        if layout == "peft":
            tensors[f"{part}.{module}.lora_{letter}.weight"] = tensor
        else:
            flat = "lora_unet_" + module.replace(".", "_")
            tensors[f"{flat}.lora_{'down' if letter == 'A' else 'up'}.weight"] = tensor
            tensors[f"{flat}.alpha"] = torch.tensor(3.0)
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)
    return 1.0 if layout == "peft" else 3.0 / rank


def save_clip(folder: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(5)
    config = CLIPVisionConfig(
        hidden_size=PATCHES,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=SEEN,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)


def save_adapter(file: Path, model: Path, *, patches: bool = False) -> None:
    """Write random weights under the published names; layers of cross-attention are odd."""
    generator = torch.Generator().manual_seed(6)

    def draw(*shape: int) -> torch.Tensor:
        return 0.5 * torch.randn(shape, generator=generator)

    unet = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    keys = {name: w for name, w in unet.items() if name.endswith("attn2.to_k.weight")}
    (width,) = {w.shape[1] for w in keys.values()}
    if patches:
        projection = {
            "proj.0.weight": draw(PATCHES, PATCHES),
            "proj.0.bias": draw(PATCHES),
            "proj.2.weight": draw(width, PATCHES),
            "proj.2.bias": draw(width),
            "proj.3.weight": draw(width),
            "proj.3.bias": draw(width),
        }
    else:
        projection = {
            "proj.weight": draw(4 * width, SEEN),
            "proj.bias": draw(4 * width),
            "norm.weight": draw(width),
            "norm.bias": draw(width),
        }
    tensors = {f"image_proj.{name}": tensor for name, tensor in projection.items()}
    order = [name for part in ("down", "up", "mid") for name in sorted(keys) if part in name[:5]]
    for index, name in enumerate(order):
        for part in "kv":
            tensors[f"ip_adapter.{2 * index + 1}.to_{part}_ip.weight"] = draw(*keys[name].shape)
    save_file(tensors, file)
