"""Claims about the public face of the package."""

import inspect
import subprocess
import sys

import pytest

import dreamlab


def test_the_public_functions_are_there_whatever_was_imported_before():
    import dreamlab.export.pipeline
    import dreamlab.jobs.generate

    for name in ("generate", "load_recipe", "export_run"):
        assert inspect.isfunction(getattr(dreamlab, name)), name
        assert getattr(dreamlab, name).__doc__
    public = {"__version__", "Client", "generate", "load_recipe", "export_run"}
    assert set(dreamlab.__all__) == public
    assert dreamlab.Client.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        dreamlab.no_such_name  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, dreamlab\n"
        "own = {m for m in sys.modules if m.startswith('dreamlab.')}\n"
        "assert all(m.startswith('dreamlab.core') for m in own), own\n"
        "assert not {'torch', 'numpy', 'omegaconf'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
