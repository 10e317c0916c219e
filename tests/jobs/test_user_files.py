"""What users bring beside a model reaches every step of a run, and says nothing with weight 0."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_models import save_tiny_controlnet, save_tiny_pipeline
from user_files import save_adapter, save_clip, write_lora, write_single_file

from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.recipes import load_recipe
from dreamlab.systems.prior import load_for_stages
from dreamlab.training.loop import train

SMALL = (
    "stages.gaussians.steps=3",
    "stages.gaussians.milestones=[{until: 1.0, size: 16}]",
    "stages.gaussians.representation={name: gaussians, count: 300, radius: 0.5, opacity: 0.5}",
    "stages.gaussians.losses={}",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    model = save_tiny_pipeline(root / "sd")
    write_single_file(model, root / "same.safetensors")
    write_single_file(model, root / "tuned.safetensors", shaken=0.1)
    write_lora(model, root / "style.safetensors", 1)
    write_lora(model, root / "kohya.safetensors", 2, layout="kohya")
    save_tiny_controlnet(root / "control")
    save_clip(root / "image_encoder")
    save_adapter(root / "adapter.safetensors", model)
    Image.new("RGB", (40, 40), (200, 30, 30)).save(root / "chair.png")
    return root


@pytest.fixture(autouse=True)
def own_cache(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMLAB_CACHE", str(files / "cache"))


def run(files: Path, folder: Path, *overrides: str) -> torch.Tensor:
    """Return all parameters after a short run."""
    model = f"prior.model={files / 'sd'}"
    config = load_recipe(
        "toybox-gaussians", overrides=[model, *SMALL, *overrides], prompt="a red mushroom"
    )
    folder.mkdir(exist_ok=True)
    device = torch.device("cpu")
    trained = train(
        config.stages,
        prompt=config.prompt,
        negative_prompt="",
        prior=load_for_stages(config.prior, list(config.stages.values()), device),
        seed=0,
        folder=RunFolder(folder),
        device=device,
    )
    assert trained.is_finished
    groups = trained.stage.representation.parameter_groups().values()
    return torch.cat([p.detach().flatten() for group in groups for p in group])


def settings(files: Path) -> dict[str, tuple[str, str]]:
    """Return for each kind of file what says nothing, and what says something."""
    adapter = f"adapter: {files / 'adapter.safetensors'}"
    sight = f"prior.image_prompt={{image: {files / 'chair.png'}, {adapter}, scale: "
    control = f"stages.gaussians.controls=[{{model: {files / 'control'}, sees: depth, strength: "
    stack = "prior.loras=[" + ", ".join(
        f"{{path: {files / name}.safetensors, weight: WEIGHT}}" for name in ("style", "kohya")
    )
    return {
        "checkpoint": tuple(
            f"prior.checkpoint={files / name}.safetensors" for name in ("same", "tuned")
        ),
        "loras": tuple(f"{stack}]".replace("WEIGHT", weight) for weight in ("0.0", "0.8")),
        "image prompt": tuple(f"{sight}{scale}}}" for scale in ("0.0", "{from: 0.8, to: 0.2}")),
        "controls": tuple(f"{control}{s}}}]" for s in ("0.0", "{from: 1, to: 0.3}")),
    }


@pytest.mark.parametrize("kind", ["checkpoint", "loras", "image prompt", "controls"])
def test_a_file_of_no_weight_changes_nothing_and_others_do(files: Path, tmp_path: Path, kind: str):
    silent, heard = settings(files)[kind]
    alone = run(files, tmp_path / "alone")
    torch.testing.assert_close(run(files, tmp_path / "silent", silent), alone, rtol=0, atol=0)
    assert not torch.equal(run(files, tmp_path / "heard", heard), alone)


def test_all_of_them_work_together(files: Path, tmp_path: Path):
    heard = [pair[1] for pair in settings(files).values()]
    found = run(files, tmp_path, *heard)
    assert found.isfinite().all() and not torch.equal(found, run(files, tmp_path / "alone"))
