"""What a stage begins with: the object of the stage before, an asset, or a picture."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.protocols import (
    Adopting,
    AdoptingPicture,
    AdoptingSplats,
    Composed,
    Resizing,
    Splats,
    Splatted,
    objects_of,
)
from dreamlab.representations.painted import Painted
from dreamlab.systems.assets import Start
from dreamlab.systems.per_object import check_per_object
from dreamlab.systems.stage import Stage
from dreamlab.systems.surface import check_has_surface, surface_of

READ_BY = (
    "half_extent",
    "grid",
    "distance_grid",
    "deformation",
    "reach",
    "activation",
    "blob",
    "blob_scale",
    "blob_radius",
)
"""Settings of representations that say which object a state is; tensors alone do not."""


def continue_from(stage: Stage, previous: Stage) -> None:
    """Let `stage` take over the object of the stage before.

    The same representation goes on as it is if its settings give its tensors the same sizes and the
    same meaning. Otherwise it adopts Gaussians as Gaussians; a surface painted on a hash grid goes
    on from another one with whatever both have (`representations.painted`), so that a material that
    is added or another resolution costs nothing else; and of everything else the surface and the
    colours are adopted. The renderer's state comes along if its settings are the same. Each
    particle takes over one of the particles before, in their order.

    Raises:
        InputError: this representation cannot become a mesh, or there is no surface yet.
    """
    for index in range(len(stage.particles)):
        stage.focus(index)
        previous.focus(index % len(previous.particles))
        _continue_particle(stage, previous)
    stage.focus(0)
    previous.focus(0)


def _continue_particle(stage: Stage, previous: Stage) -> None:
    way = way_to_continue(stage, previous)
    if way == "load":
        representation: Any = previous.representation
        stage.load_part("representation", stage.representation, representation.state_dict())
    else:
        is_composed = isinstance(previous.representation, Composed)
        pairs = zip(
            objects_of(stage.representation), objects_of(previous.representation), strict=True
        )
        for number, (mine, theirs) in enumerate(pairs):
            if way == "adopt splats":
                mine.adopt_splats(theirs.splats())
                continue
            surface = surface_of(previous, number if is_composed else None)
            if way == "take over":
                mine.take_over(theirs, surface)
            else:
                mine.adopt(surface, theirs.color_at)
    if stage.parts["renderer"] == previous.parts["renderer"]:
        renderer: Any = previous.renderer
        stage.load_part("renderer", stage.renderer, renderer.state_dict())


def way_to_continue(
    stage: Stage, previous: Stage
) -> Literal["load", "take over", "adopt splats", "adopt surface"]:
    """Say how the object in focus takes over that of the stage before.

    Objects of a layout take over those of the same number, all in one way.

    Raises:
        InputError: it cannot.
    """
    check_per_object({each.name: each.config for each in (previous, stage)}, stage.layout)
    mine: Any = objects_of(stage.representation)[0]
    theirs: Any = objects_of(previous.representation)[0]
    before, now = previous.parts["representation"].name, stage.parts["representation"].name
    differing = _read_differently(mine, theirs) if before == now else []
    is_fitting = before == now and not differing and _sizes(mine) == _sizes(theirs)
    if is_fitting or (before == now and not differing and not isinstance(mine, Adopting)):
        return "load"
    if isinstance(mine, AdoptingSplats) and isinstance(theirs, Splatted):
        return "adopt splats"
    if isinstance(mine, Painted) and isinstance(theirs, Painted):
        return "take over"
    if isinstance(mine, Adopting):
        check_has_surface(previous)
        return "adopt surface"
    if differing:
        raise InputError(
            f"stage {stage.name!r} cannot start from stage {previous.name!r}: a {now} goes on as "
            f"it is, and another {', '.join(differing)} would make another object of it.",
            f"use the settings of stages.{previous.name}.representation, or set "
            f"stages.{stage.name}.start_from to null.",
        )
    raise InputError(
        f"stage {stage.name!r} cannot start from stage {previous.name!r}: a {before} "
        f"cannot become a {now}.",
        f"set stages.{stage.name}.start_from to null, or use the same representation.",
    )


def _read_differently(mine: Any, theirs: Any) -> list[str]:
    """Return the settings by which two representations of a kind read the same tensors apart."""
    own, other = getattr(mine, "config", None), getattr(theirs, "config", None)
    return [name for name in READ_BY if getattr(own, name, None) != getattr(other, name, None)]


def _sizes(representation: nn.Module) -> dict[str, torch.Size]:
    """Return the sizes of the tensors that settings decide; loading resizes the others."""
    return {
        f"{prefix}.{name}": tensor.shape
        for prefix, part in representation.named_modules()
        if not isinstance(part, Resizing)
        for tensors in (part.named_parameters, part.named_buffers)
        for name, tensor in tensors(recurse=False)
    }


def begin_with(stage: Stage, start: Start) -> None:
    """Let `stage` take over shape and colours of a model, Gaussians as they are, or a picture.

    Raises:
        InputError: its representation cannot become that.
    """
    name = stage.parts["representation"].name
    if isinstance(start, Splats):
        if not isinstance(stage.representation, AdoptingSplats):
            raise InputError(
                f"stage {stage.name!r} cannot start from Gaussians: a {name} has none.",
                f"set stages.{stage.name}.start_from to a mesh, or use gaussians.",
            )
        for field, _ in stage.particles:
            field.adopt_splats(start)
        return
    if isinstance(start, Tensor):
        if not isinstance(stage.representation, AdoptingPicture):
            raise InputError(
                f"stage {stage.name!r} cannot start from a picture: a {name} cannot become one.",
                f"set stages.{stage.name}.start_from to null, or use the representation image.",
            )
        for field, _ in stage.particles:
            field.adopt_picture(start.to(stage.device))
        return
    if not isinstance(stage.representation, Adopting):
        raise InputError(
            f"stage {stage.name!r} cannot start from a model: a {name} cannot become a mesh.",
            f"set stages.{stage.name}.start_from to null, or use dmtet, gaussians, "
            "textured_mesh or uv_mesh.",
        )
    for field, _ in stage.particles:
        field.adopt(start.mesh, start.color_at)
