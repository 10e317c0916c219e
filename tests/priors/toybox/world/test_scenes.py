"""Scenes obey their rules, the held-out split is fair, and layouts fit where they should."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from dreamlab.core.errors import InputError
from dreamlab.priors.toybox.world.objects.catalogue import OBJECTS
from dreamlab.priors.toybox.world.palette import COLORS, PATTERNS
from dreamlab.priors.toybox.world.scenes import (
    RELATIONS,
    SCENE_RADIUS,
    SUPPORTS,
    Item,
    Scene,
    is_held_out,
    is_held_out_item,
    is_held_out_relation,
    pack,
    sample_scene,
    sample_simple_scene,
)


@pytest.fixture(scope="module")
def training() -> list[Scene]:
    rng = np.random.default_rng(0)
    return [sample_scene(rng) for _ in range(10_000)]


def test_no_training_scene_is_held_out(training: list[Scene]) -> None:
    assert not any(is_held_out(scene) for scene in training)


def test_simple_scenes_are_single_mostly_plain_training_scenes() -> None:
    rng = np.random.default_rng(2)
    scenes = [sample_simple_scene(rng) for _ in range(2000)]
    assert not any(is_held_out(scene) for scene in scenes)
    assert all(len(scene.items) == 1 and scene.count == 1 for scene in scenes)
    plain = [scene for scene in scenes if scene.items[0].pattern == "plain"]
    assert 0.8 <= len(plain) / len(scenes) <= 0.9


def test_held_out_draws_are_held_out() -> None:
    rng = np.random.default_rng(1)
    assert all(is_held_out(sample_scene(rng, held_out=True)) for _ in range(1000))


def test_a_fair_share_of_color_object_pairs_is_held_out() -> None:
    withheld = [pair for pair in product(COLORS, OBJECTS) if is_held_out_item(*pair)]
    assert 0.12 <= len(withheld) / (len(COLORS) * len(OBJECTS)) <= 0.18
    per_object = Counter(name for _, name in withheld)
    assert {per_object[name] for name in OBJECTS} <= {1, 2}
    per_color = Counter(color for color, _ in withheld)
    assert all(0.12 <= per_color[color] / len(OBJECTS) <= 0.20 for color in COLORS)


def test_a_fair_share_of_relations_is_held_out() -> None:
    for relation in RELATIONS:
        seconds = SUPPORTS if relation == "on top of" else tuple(OBJECTS)
        pairs = list(product(OBJECTS, seconds))
        withheld = [(a, b) for a, b in pairs if is_held_out_relation(a, relation, b)]
        assert 0.12 <= len(withheld) / len(pairs) <= 0.18
        firsts = Counter(a for a, _ in withheld)
        assert all(firsts[name] <= 0.4 * len(seconds) for name in OBJECTS)


def test_swapping_the_objects_does_not_bring_a_held_out_relation_back() -> None:
    for a, relation, b in product(OBJECTS, RELATIONS, OBJECTS):
        assert is_held_out_relation(a, relation, b) == is_held_out_relation(b, relation, a)


def test_training_covers_the_world_in_the_documented_shares(training: list[Scene]) -> None:
    singles = sum(s.relation is None and s.count == 1 for s in training) / len(training)
    related = sum(s.relation is not None for s in training) / len(training)
    assert abs(singles - 0.7) < 0.02
    assert abs(related - 0.2) < 0.02
    items = [item for scene in training for item in scene.items]
    assert {item.object for item in items} == set(OBJECTS)
    assert {item.color for item in items} == set(COLORS)
    assert {item.pattern for item in items} == set(PATTERNS)
    assert {scene.relation for scene in training} == {None, *RELATIONS}
    plain = sum(item.pattern == "plain" for item in items) / len(items)
    assert 0.6 < plain < 0.75


def test_a_seed_repeats_its_scenes(training: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    assert [sample_scene(rng) for _ in range(50)] == training[:50]


def test_packed_scenes_fit_the_ball_and_have_positive_sizes(training: list[Scene]) -> None:
    packed = pack(training[:500])
    assert len(packed) == 500
    assert packed.start[-1] == len(packed.shape)
    assert (packed.size > 0).all()
    assert (np.linalg.norm(packed.center, axis=-1) < SCENE_RADIUS).all()
    for array in (packed.color, packed.partner):
        assert ((array >= 0) & (array <= 1)).all()


def test_size_words_change_the_size() -> None:
    small, usual, big = (
        pack([Scene((Item("sphere", "red", size=size),))]).size[0, 0]
        for size in ("small", None, "big")
    )
    assert small < 0.75 * usual < 0.75 * big
    assert big == pytest.approx(SCENE_RADIUS)


def test_relations_put_the_first_object_where_they_say() -> None:
    ball, block = Item("sphere", "red"), Item("cube", "blue")
    above, beside, before = (pack([Scene((ball, block), relation)]) for relation in RELATIONS)
    # part 0 is the sphere, part 1 the cube
    gap = above.center[0, 2] - above.size[0, 2] - above.center[1, 2] - above.size[1, 2]
    assert abs(gap) < 0.01
    assert np.abs(above.center[0, :2] - above.center[1, :2]).max() < 1e-6
    for packed, axis, sign in ((beside, 1, -1), (before, 0, 1)):
        offset = sign * (packed.center[0] - packed.center[1])[axis]
        assert offset > packed.size[0, axis] + packed.size[1, axis]
        ground = packed.center[:, 2] - packed.size[:, 2]
        assert ground[0] == pytest.approx(ground[1], abs=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_copies_do_not_touch(count: int) -> None:
    packed = pack([Scene((Item("sphere", "red"),), count=count)])
    assert len(packed.shape) == count
    for i, j in product(range(count), repeat=2):
        apart = np.linalg.norm(packed.center[i] - packed.center[j])
        assert i == j or apart > packed.size[i, 0] + packed.size[j, 0]


def test_a_second_color_paints_the_second_parts_or_the_pattern() -> None:
    white = np.array(COLORS["white"], np.float32)
    two = pack([Scene((Item("mushroom", "red", second_color="white"),))])
    assert (two.color == white).all(-1).any()
    dotted = pack([Scene((Item("mushroom", "red", "dotted", "white"),))])
    assert not (dotted.color == white).all(-1).any()
    assert (dotted.partner[dotted.pattern > 0] == white).all()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Item("dragon", "red"),
        lambda: Item("cube", "mauve"),
        lambda: Item("cube", "red", "furry"),
        lambda: Item("cube", "red", "striped", "red"),
        lambda: Item("cube", "red", second_color="blue"),
        lambda: Scene((Item("cube", "red"),), count=4),
        lambda: Scene((Item("cube", "red"), Item("cube", "blue"))),
        lambda: Scene((Item("cube", "red"),), "next to"),
        lambda: Scene((Item("cube", "red"), Item("sphere", "blue")), "on top of"),
        lambda: Scene((Item("cube", "red"), Item("cone", "blue")), "next to", 2),
    ],
)
def test_scenes_outside_the_world_are_refused(build) -> None:
    with pytest.raises(InputError):
        build()
