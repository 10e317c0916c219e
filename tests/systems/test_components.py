import dataclasses
import inspect
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from toy_run import BallPrior

from dreamlab.core.config import field_docs
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Representation
from dreamlab.guidance import sds
from dreamlab.guidance.base import Guidance
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.systems.components import SUM, Kind, available, find

KINDS: tuple[Kind, ...] = get_args(Kind)
ALL = [(kind, name) for kind in KINDS for name in available(kind)]


def test_every_kind_has_a_component() -> None:
    assert {kind for kind, _ in ALL} == set(KINDS)
    assert "hashgrid" in available("representations")
    assert "volume" in available("renderers")
    assert "sds" in available("guidance")


def test_helper_files_are_no_components() -> None:
    assert "blob" not in available("representations")
    assert "base" not in available("guidance")


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_component_has_documented_frozen_settings_a_builder_and_a_source(
    kind: Kind, name: str
) -> None:
    component = find(kind, {"name": name})
    config = component.module.Config
    assert config.__dataclass_params__.frozen
    assert field_docs(config).keys() == {field.name for field in dataclasses.fields(config)}
    assert next(iter(inspect.signature(component.module.build).parameters)) == "config"
    assert "Source:" in inspect.getsource(component.module)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_plain_settings_of_a_component_find_it_again(kind: Kind, name: str) -> None:
    component = find(kind, {"name": name})
    assert find(kind, component.plain) == component


@pytest.mark.parametrize("name", available("representations"))
def test_a_representation_satisfies_its_protocol(name: str) -> None:
    component = find("representations", {"name": name})
    built = component.module.build(component.config, torch.Generator())
    assert isinstance(built, Representation) and isinstance(built, torch.nn.Module)
    trainable = {id(parameter) for parameter in built.parameters()}
    grouped = [id(p) for group in built.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(trainable), "each parameter is in exactly one group"


@pytest.mark.parametrize("name", available("guidance"))
def test_a_guidance_satisfies_its_protocol(name: str) -> None:
    component = find("guidance", {"name": name})
    prior = BallPrior()
    prompts = Prompts.encode(prior, "a ball", "", PromptConfig())
    given = (prior, prompts)
    if name == SUM:
        given = ({"only": sds.build(sds.Config(), prior, prompts)}, prior)
    assert isinstance(component.module.build(component.config, *given), Guidance)


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"stages\.a\.representation\.name.*'hashgrid'"):
        find("representations", {"name": "hasgrid"}, "stages.a.representation")


@pytest.mark.parametrize("settings", [{}, {"name": 3}, {"name": None}])
def test_a_missing_name_is_refused_with_the_known_ones(settings: dict) -> None:
    with pytest.raises(InputError, match="hashgrid"):
        find("representations", settings)


@pytest.mark.parametrize("name", [".hashgrid", "a..b", "no_such_package.field", "os.path"])
def test_an_external_name_that_holds_no_component_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="name is"):
        find("representations", {"name": name})


EXTERNAL = '''
"""A component from elsewhere."""
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    size: int = 3

def build(config):
    return config.size
'''


def test_a_component_may_live_in_another_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "elsewhere"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cube.py").write_text(EXTERNAL)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        component = find("representations", {"name": "elsewhere.cube", "size": 4})
        assert component.module.build(component.config) == 4
        assert component.plain == {"name": "elsewhere.cube", "size": 4}
    finally:
        for name in ("elsewhere", "elsewhere.cube"):
            sys.modules.pop(name, None)
