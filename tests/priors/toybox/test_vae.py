import torch
from torch.nn.functional import conv2d

from dreamlab.priors.toybox.dataset import render_samples
from dreamlab.priors.toybox.model import Architecture, build_vae, normalise_latents
from dreamlab.priors.toybox.muon import orthogonalise
from dreamlab.priors.toybox.train_vae import edge_loss, psnr
from dreamlab.priors.toybox.vae_start import principal_components, start_encoder


def test_the_encoder_starts_as_the_principal_components():
    images = render_samples(1, "vae", 0, 32, 64).images
    torch.manual_seed(0)
    vae = build_vae(Architecture())
    start_encoder(vae, images)
    basis, offset = principal_components(images, 8)
    linear = conv2d(images, basis, stride=4) - offset[None, :, None, None]
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mean
    assert (latents - linear).square().mean().sqrt() < 0.15
    torch.testing.assert_close(linear.std(dim=(0, 2, 3)), torch.ones(8), rtol=1e-2, atol=1e-2)


def test_normalised_latents_have_unit_deviation_and_decode_to_the_same():
    torch.manual_seed(0)
    vae = build_vae(Architecture())
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = vae.encode(images).latent_dist
        decoded = vae.decode(before.mean).sample
        mean, std = before.mean.mean(dim=(0, 2, 3)), before.mean.std(dim=(0, 2, 3))
        normalise_latents(vae, mean, std)
        after = vae.encode(images).latent_dist
        again = vae.decode(after.mean).sample
    torch.testing.assert_close(after.mean.mean(dim=(0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-4, rtol=0)
    expected = before.std / std[:, None, None]
    torch.testing.assert_close(after.std, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(again, decoded, atol=1e-3, rtol=1e-3)


def test_psnr_of_a_known_error():
    a = torch.zeros(2, 3, 4, 4)
    assert abs(psnr(a, a + 0.2) - 20.0) < 1e-4


def test_a_constant_offset_has_no_edges():
    a = torch.rand(1, 3, 8, 8)
    assert edge_loss(a, a + 0.3).item() < 1e-6


def test_orthogonalised_matrices_have_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalise(torch.randn(20, 50)))
    assert 0.4 < float(values.min()) and float(values.max()) < 1.4
