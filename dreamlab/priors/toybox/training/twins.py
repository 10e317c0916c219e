"""Twins: pictures that differ in nothing but what their captions say.

The loss of a batch is mostly about what no caption tells: light, background, lens, noise. In a
group of twins all of that is shared, and so are timestep and noise (`diffusion.draw_batch`). For
the error e_i = (shared part) + (part of caption i) the differences e_i - e_j, from which the
network learns what one word changes, then lack the shared part: the gradient keeps its mean and
loses most of its noise in these directions. Two kinds of groups of `GROUP` take turns:

    views     two objects, most with a front, from the front, the side, the back and above;
    objects   eight objects in one paint from one side.
"""

from dataclasses import replace

import numpy as np
from numpy import ndarray

from dreamlab.priors.toybox.world.objects.catalogue import OBJECTS
from dreamlab.priors.toybox.world.scenes import Scene, is_held_out, sample_simple_scene
from dreamlab.priors.toybox.world.views import RANGES, Views, sample_twin_views

GROUP = 8
"""Pictures of a group."""
FRONT_SHARE = 0.8
"""Share of objects with a front in groups of views."""
_FRONTS = tuple(name for name, kind in OBJECTS.items() if kind.has_front)


def sample_twins(rng: np.random.Generator, index: int) -> tuple[list[Scene], Views]:
    """Draw group `index`: one of views if it is even, else one of objects."""
    elevation = rng.uniform(*RANGES.elevation)
    overhead = rng.uniform(*RANGES.overhead)
    if index % 2 == 0:
        scenes, azimuths = [sample_mostly_fronted(rng) for _ in range(2)], _four_sides(rng)
        elevations = np.array([elevation, elevation, elevation, overhead])
        scenes, azimuths = [s for s in scenes for _ in azimuths], np.tile(azimuths, len(scenes))
        elevations = np.tile(elevations, 2)
    else:
        scenes = _in_one_paint(rng)
        azimuths = np.full(GROUP, rng.uniform(*RANGES.azimuth))
        is_above = rng.random() < RANGES.overhead_share
        elevations = np.full(GROUP, overhead if is_above else elevation)
    return scenes, sample_twin_views(rng, azimuths, elevations)


def sample_mostly_fronted(rng: np.random.Generator) -> Scene:
    """Draw one object, with a front in most cases."""
    return sample_simple_scene(rng, _FRONTS if rng.random() < FRONT_SHARE else None)


def _four_sides(rng: np.random.Generator) -> ndarray:
    """Return azimuths of a front, a side, a back and any view, degrees."""
    turn = rng.uniform(-45, 45)
    return np.array([turn, turn + rng.choice([-90, 90]), turn + 180, turn])


def _in_one_paint(rng: np.random.Generator) -> list[Scene]:
    """Draw scenes of one object each, all with the colour and pattern of the first."""
    first = sample_simple_scene(rng)
    paint = {"color": first.items[0].color, "pattern": first.items[0].pattern, "second_color": None}
    scenes: list[Scene] = []
    while len(scenes) < GROUP:
        item = replace(sample_simple_scene(rng).items[0], **paint)
        if not is_held_out(Scene((item,))):
            scenes.append(Scene((item,)))
    return scenes
