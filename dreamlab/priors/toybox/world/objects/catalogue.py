"""The catalogue of the toybox world.

The order is part of the held-out rule (`scenes.is_held_out`): new objects go to the end.
"""

from dreamlab.priors.toybox.world.objects.animals import ANIMALS
from dreamlab.priors.toybox.world.objects.basic import BASIC
from dreamlab.priors.toybox.world.objects.garden import GARDEN
from dreamlab.priors.toybox.world.objects.home import HOME
from dreamlab.priors.toybox.world.objects.parts import ObjectKind
from dreamlab.priors.toybox.world.objects.town import TOWN

CATALOGUE: tuple[ObjectKind, ...] = BASIC + GARDEN + HOME + TOWN + ANIMALS
"""All objects, in their fixed order."""

OBJECTS: dict[str, ObjectKind] = {kind.name: kind for kind in CATALOGUE}
"""The catalogue by name."""

OBJECT_INDEX: dict[str, int] = {kind.name: index for index, kind in enumerate(CATALOGUE)}
"""Place of every object in the catalogue."""

PRIMITIVE_NAMES: tuple[str, ...] = tuple(kind.name for kind in BASIC)
"""The plain solids."""

COMPOSITE_NAMES: tuple[str, ...] = tuple(kind.name for kind in CATALOGUE if kind not in BASIC)
"""The recognisable things."""
