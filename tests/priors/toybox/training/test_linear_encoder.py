import pytest
import torch

from dreamlab.priors.toybox.model import Architecture, build_vae
from dreamlab.priors.toybox.training.dataset import render_samples
from dreamlab.priors.toybox.training.linear_encoder import fit_basis, patches_of, set_encoder


@pytest.fixture(scope="module")
def images():
    return render_samples(1, "basis", 0, 48, 64).images / 2 + 0.5


@pytest.fixture(scope="module")
def basis(images):
    return fit_basis([images[:20], images[20:]], 12)


def test_the_convolutions_compute_the_affine_map_of_patches(images, basis):
    vae = build_vae(Architecture())
    set_encoder(vae.encoder, basis, scale=0.5)
    with torch.no_grad():
        latents = vae.encode(images * 2 - 1).latents
    expected = 0.5 * (patches_of(images) - basis.mean) @ basis.matrix.T
    rows = latents.permute(0, 2, 3, 1).reshape(-1, 12)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


def test_latents_have_mean_zero_and_mean_variance_one(images, basis):
    latents = (patches_of(images) - basis.mean) @ basis.matrix.T
    torch.testing.assert_close(latents.mean(dim=0), torch.zeros(12), atol=1e-4, rtol=0)
    assert abs(float(latents.var(dim=0).mean()) - 1) < 1e-3


def test_latents_are_uncorrelated_and_ordered_by_variance(images, basis):
    latents = (patches_of(images) - basis.mean) @ basis.matrix.T
    covariance = torch.cov(latents.T)
    variances = covariance.diagonal()
    assert (covariance - variances.diag()).abs().max() < 1e-3
    assert (variances.diff() < 0).all()


def test_twelve_components_keep_most_of_a_picture(images, basis):
    pseudo_inverse = torch.linalg.pinv(basis.matrix)
    rows = patches_of(images)
    restored = ((rows - basis.mean) @ basis.matrix.T) @ pseudo_inverse.T + basis.mean
    assert float((restored - rows).square().mean()) < 0.05 * float((rows - rows.mean(0)).var())


def test_batches_are_pooled(images, basis):
    whole = fit_basis([images], 12)
    torch.testing.assert_close(whole.mean, basis.mean)
    torch.testing.assert_close(
        whole.matrix.T @ whole.matrix, basis.matrix.T @ basis.matrix, rtol=1e-3, atol=1e-3
    )
