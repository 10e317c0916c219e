"""A prior of several views at once: a density of the pictures of one object from N cameras.

    p(x^1 .. x^N | y, c^1 .. c^N),        e(z_t^1 .. z_t^N, t, y, c^1 .. c^N)  ->  N noises

Where other priors judge each view for itself, this one also judges whether they fit each other: a
face on the back of a head is unlikely beside a face on its front (the "Janus problem").

Glossary: N views of an object, a *group*; x^v, z^v the picture and the latents of view v; c^v its
camera; y the prompt; e the predicted noises; az, el azimuth and elevation.

Rows: what is denoised comes group by group. Every N rows in a row are the views of one object,
under one prompt and at one time; their order does not matter as long as cameras come in the same.

Cameras: c is the camera-to-world matrix, its 16 numbers row by row, with the distance taken out:

    c = [ R  o ]     R = (right, up, backward),   o = (cos el cos az, cos el sin az, sin el)
        [ 0  1 ]

in the conventions of this program (OpenGL camera, z up). Turning an object by 90 degrees about z
turns c alike: c(az + 90) = Rz(90) c(az). c follows from azimuth and elevation alone, so it is about
what the camera looks at, wherever that stands.

MVDream's world is ours. It puts a camera at (cos el sin a, sin el, cos el cos a) in a world with y
up and turns that by (x, y, z) -> (x, -z, y) to z up, where it is (cos el sin a, -cos el cos a,
sin el): our az = a - 90. Its samplers begin at a = 90, which is our azimuth 0, the front; what is
in front of an object is not told to the network in any other way than by what it was trained on.

Source: Shi et al., MVDream: Multi-view Diffusion for 3D Generation (2024), section 3, and the
camera code of its release.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras, orbit_cameras
from dreamlab.core.errors import InputError
from dreamlab.priors.base import Prior

CAMERA_NUMBERS = 16


@runtime_checkable
class MultiView(Protocol):
    """A prior that denoises the views of an object together, and is told their cameras."""

    name: str
    num_views: int
    """N, views of a group; `predict` takes whole groups."""

    def with_cameras(
        self, conditionings: Float[Tensor, "batch _variants tokens features"], cameras: Cameras
    ) -> Float[Tensor, "batch _variants rows features"]:
        """Return conditionings that tell the cameras too, as `predict` wants them.

        Args:
            conditionings: of each view, any number; what `encode_text` returned, or mixtures of it.
            cameras: of the views.
        """
        ...


def group_size(prior: Prior, num_views: int) -> int:
    """Return how many views in a row a prior judges together: N, or 1 if each for itself.

    Args:
        prior: the model.
        num_views: views of a step.

    Raises:
        InputError: they are no whole groups.
    """
    if not isinstance(prior, MultiView):
        return 1
    check_whole_groups(prior.name, prior.num_views, num_views)
    return prior.num_views


def whole_groups(together: int, num_views: int) -> int:
    """Return the least number of views, at least `num_views`, that are groups of `together`."""
    return -(-num_views // together) * together


def check_whole_groups(
    name: str, together: int, num_views: int, key: str = "views of the stage"
) -> None:
    """Refuse views that are no whole groups.

    Args:
        name: of the prior.
        together: N.
        num_views: views of a step.
        key: the setting that says how many.

    Raises:
        InputError: with a number that would be right.
    """
    if num_views % together:
        raise InputError(
            f"{name} judges {together} views of an object at once, and there are {num_views} in a "
            "step.",
            f"set {key} to a multiple of {together}, such as {whole_groups(together, num_views)}.",
        )


def camera_numbers(cameras: Cameras) -> Float[Tensor, "batch 16"]:
    """Return c of each camera."""
    one = torch.ones_like(cameras.distance)
    orbit = orbit_cameras(cameras.azimuth, cameras.elevation, one, cameras.fov_y)
    return orbit.camera_to_world.flatten(1)
