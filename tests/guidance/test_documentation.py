"""Claims about docs/guidance.md: it names every rule, and what it tells to write builds."""

import re
from pathlib import Path

import pytest
import yaml
from rules import CASES

from dreamlab.core.config import build
from dreamlab.priors.load import PriorConfig
from dreamlab.systems.components import available, find
from dreamlab.systems.settings import StageConfig

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "guidance.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
TABLE = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", TEXT, re.MULTILINE))
INLINE = re.findall(r"`(\{name: [^`]*\})`", TEXT)


def test_every_rule_has_a_section():
    sections = set(re.findall(r"^## `(\w+)`", TEXT, re.MULTILINE))
    assert sections == TABLE.keys() == set(available("guidance"))


def test_every_rule_has_a_picture():
    text = TEXT + (DOCS / "vsd.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\(images/rule-(\w+)\.png\)", text))
    assert shown == set(available("guidance")) - {"sum"}  # of rules that have theirs
    assert all((DOCS / "images" / f"rule-{name}.png").is_file() for name in shown)


@pytest.mark.parametrize("block", BLOCKS)
def test_what_it_shows_builds(block: str):
    settings = yaml.safe_load(block)
    build(PriorConfig, settings.pop("prior", {}))
    if settings:
        build(StageConfig, {"steps": 1, **settings}).resolved()


@pytest.mark.parametrize("settings", INLINE)
def test_what_it_mentions_builds(settings: str):
    find("guidance", yaml.safe_load(settings.replace("\n", " ")))


@pytest.mark.parametrize("case", CASES)
def test_the_table_tells_what_a_view_costs(case: str):
    """Of rules whose number depends on the noise level, what they need beside the path to it."""
    rows = CASES[case].rows
    cost = TABLE[CASES[case].name]
    numbers = {int(number) for number in re.findall(r"\d+", cost)}
    assert (rows[-1] if "and" in cost else sum(rows)) in numbers


def test_there_is_something_to_build():
    assert len(BLOCKS) >= 9 and len(INLINE) >= 4
