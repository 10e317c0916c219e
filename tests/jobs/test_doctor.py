"""Claims about the doctor: it looks at everything, never breaks, and every problem has a fix."""

import os

import pytest

from dreamlab.jobs import doctor
from dreamlab.ops.backends import OFFERED, ONE_FORM


def findings(check, *arguments):
    return list(check(*arguments))


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Let the doctor see a table of models of our own."""

    def write(text: str) -> None:
        (tmp_path / "models.yaml").write_text(text)
        monkeypatch.setattr("dreamlab.priors.load.configs_dir", lambda: tmp_path)

    return write


def test_the_whole_examination_covers_every_area_and_explains_every_problem(tmp_path):
    found = list(doctor.examine(tmp_path / "runs", network=False))
    areas = {finding.area for finding in found}
    assert {"python", "torch", "warp", "packages", "runs", "cache", "ffmpeg"} <= areas
    assert {f"op {op}" for op in OFFERED.keys() | ONE_FORM.keys()} <= areas
    assert {"model toybox", "model sd15", "model sd21"} <= areas
    assert all(finding.fix for finding in found if finding.status == "problem")
    assert all(finding.detail for finding in found)
    assert not (tmp_path / "runs").exists(), "looking changes nothing"


def test_a_check_that_breaks_becomes_a_problem_and_the_others_still_run(tmp_path, monkeypatch):
    def broken():
        raise ImportError("no such thing")
        yield

    monkeypatch.setattr(doctor, "check_torch", broken)
    found = list(doctor.examine(tmp_path, network=False))
    (problem,) = (finding for finding in found if "no such thing" in finding.detail)
    assert problem.status == "problem" and problem.fix
    assert any(finding.area == "ffmpeg" for finding in found)


def test_an_old_python_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 10, 1))
    (finding,) = findings(doctor.check_python)
    assert finding.status == "problem" and "3.11" in finding.fix


def test_threads_that_spin_are_noted(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert any("OMP_WAIT_POLICY" in f.detail for f in findings(doctor.check_torch))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    assert not any("OMP_WAIT_POLICY" in f.detail for f in findings(doctor.check_torch))


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "REQUIRED_PACKAGES", ("torch", "no_such_package"))
    finding = findings(doctor.check_packages)[0]
    assert finding.status == "problem" and "no_such_package" in finding.detail


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("problem", 1)])
def test_blender_is_looked_for_in_the_interpreter_that_is_named(
    monkeypatch, tmp_path, status, code
):
    named = tmp_path / "python"
    named.write_text(f"#!/bin/sh\nexit {code}\n")
    named.chmod(0o755)
    monkeypatch.setenv("DREAMLAB_BLENDER_PYTHON", str(named))
    (finding,) = findings(doctor.check_blender)
    assert finding.status == status and str(named) in finding.detail
    assert bool(finding.fix) == (status == "problem")


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch):
    monkeypatch.setenv("DREAMLAB_CACHE", "/proc/nowhere")
    runs, cache = findings(doctor.check_folders, doctor.Path("/proc/runs"))
    assert runs.status == "problem" and "--output" in runs.fix
    assert cache.status == "problem" and "DREAMLAB_CACHE" in cache.fix


def test_a_disk_that_is_nearly_full_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LOW_DISK_GB", 1e9)
    assert all(f.status == "problem" for f in findings(doctor.check_folders, tmp_path))


def test_a_model_on_this_machine_is_found_where_it_lies(tables, tiny_model):
    tables(f"mine: {{sources: [no/such, '{tiny_model}']}}\n")
    (finding,) = findings(doctor.check_models, False)
    assert finding.status == "ok" and str(tiny_model) in finding.detail


def test_missing_weights_of_the_package_are_a_problem(tables):
    tables("mine: {sources: ['package:no/such']}\n")
    (finding,) = findings(doctor.check_models, False)
    assert finding.status == "problem" and "reinstall" in finding.fix


def test_without_the_network_a_model_of_the_hub_is_a_note_and_the_hub_is_not_asked(
    tables, monkeypatch
):
    tables("mine: {sources: [no-such-owner/no-such-model]}\n")
    monkeypatch.setattr(doctor, "_reachable", lambda *_: pytest.fail("the hub was asked"))
    for network in (False, True):
        (finding,) = findings(doctor.check_models, network)
        assert finding.status == "note" and finding.fix
    assert os.environ["HF_HUB_OFFLINE"] == "1", "the tests run without the hub"


def test_a_hub_that_does_not_answer_is_noted_with_the_reason(monkeypatch):
    from huggingface_hub import HfApi

    asked = []

    def unreachable(self, hub_id, timeout):
        asked.append((hub_id, timeout))
        raise ConnectionError("down")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    finding = doctor._reachable("model mine", ["a/b", "c/d"])
    assert finding.status == "note" and "cannot be reached" in finding.detail
    assert asked == [("a/b", doctor.NETWORK_TIMEOUT_S)], "one look is enough"
