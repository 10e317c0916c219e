"""Where dreamlab finds its own files."""

from pathlib import Path

import pytest

from dreamlab.core import locations
from dreamlab.core.errors import MissingError


def test_configs_are_found_beside_the_package_or_inside_it(tmp_path: Path, monkeypatch):
    package = tmp_path / "dreamlab"
    monkeypatch.setattr(locations, "PACKAGE", package)
    with pytest.raises(MissingError, match="configs"):
        locations.configs_dir()
    for folder in (tmp_path / "configs", package / "configs"):
        folder.mkdir(parents=True)
        (folder / "models.yaml").write_text("{}")
        assert locations.configs_dir() == folder


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DREAMLAB_CACHE", raising=False)
    assert locations.cache_dir() == Path.home() / ".cache" / "dreamlab"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert locations.cache_dir() == Path("/x/dreamlab")
    monkeypatch.setenv("DREAMLAB_CACHE", "/own")
    assert locations.cache_dir() == Path("/own")
