import pytest
import torch

from dreamlab.priors.toybox.model import Architecture, build_vae
from dreamlab.priors.toybox.training.decoder import (
    DecoderConfig,
    cosine_rate,
    draw_crops,
    edge_loss,
    fit_encoder,
    psnr,
    train_decoder,
)


def test_psnr_of_a_known_error():
    a = torch.zeros(2, 3, 4, 4)
    assert abs(psnr(a, a + 0.2) - 20.0) < 1e-4


def test_a_constant_offset_has_no_edges():
    a = torch.rand(1, 3, 8, 8)
    assert edge_loss(a, a + 0.3).item() < 1e-6


def test_crops_keep_the_patches_of_the_encoder_whole():
    images = torch.rand(16, 3, 64, 64)
    cells = torch.arange(16).repeat_interleave(4).float()
    images[:, 0] = cells[None, None, :]
    crops = draw_crops(images, 32, torch.Generator().manual_seed(0))
    columns = crops[:, 0, 0].unflatten(-1, (8, 4))
    assert (columns == columns[..., :1]).all()


def test_the_learning_rate_rises_and_falls_to_zero():
    assert cosine_rate(0, 1000) == pytest.approx(1 / 30)
    assert cosine_rate(29, 1000) == pytest.approx(1.0)
    assert cosine_rate(999, 1000) == pytest.approx(0.0)


def test_training_improves_the_decoder_and_leaves_the_encoder(tmp_path):
    torch.manual_seed(0)
    vae = build_vae(Architecture(decoder_blocks=(0, 0, 0)))
    fit_encoder(vae, 1, size=64, num_images=64)
    encoder = {name: t.clone() for name, t in vae.encoder.state_dict().items()}
    seen = []
    config = DecoderConfig(steps=30, batch=4)
    train_decoder(
        vae,
        tmp_path / "decoder.safetensors",
        config,
        seed=1,
        size=64,
        device=torch.device("cpu"),
        on_step=lambda step, values: seen.append(values["loss"]),
    )
    assert sum(seen[-5:]) < 0.75 * sum(seen[:5])
    for name, tensor in vae.encoder.state_dict().items():
        assert torch.equal(tensor, encoder[name])
