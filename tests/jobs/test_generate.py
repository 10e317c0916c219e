"""Claims about the main job, made on a real run with a tiny random prior."""

import json
import resource
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from dreamlab.core.config import load_yaml, to_plain
from dreamlab.core.errors import DreamlabError, ExitCode, InputError, MissingError
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs import control, state, views
from dreamlab.jobs import export as export_job
from dreamlab.jobs import generate as generate_job
from dreamlab.jobs.generate import carry_out, generate, prepare, resume
from dreamlab.jobs.queue import actions, exports, worker
from dreamlab.jobs.recipes import load_recipe, load_run_config
from dreamlab.training.stop import StopFlag

PHASES = ["load prior", "gaussians", "mesh", "export", "turntable"]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(views, "FRAMES", 2)
    monkeypatch.setattr(views, "MESH_SIZE", 32)
    monkeypatch.setattr(views, "FIELD_SIZE", 32)
    monkeypatch.setattr(views, "SHEET_SIZE", 32)
    monkeypatch.setattr(export_job, "REFERENCE_SIZE", 48)


def small_config(small_settings, *more):
    return load_recipe("toybox", "draft", [*small_settings, *more], prompt="a red mushroom")


def test_a_finished_run_has_every_file_that_the_design_promises(finished_run):
    folder = finished_run.folder
    for path in (folder.config, folder.job, folder.events, folder.log, folder.report):
        assert path.stat().st_size > 0
    assert (folder.checkpoints / "last.safetensors").is_file()
    assert (folder.exports / "model.glb").is_file()
    assert list(folder.previews.glob("*.webp"))
    assert not list(folder.root.rglob("*.part*")), "nothing temporary is left"


def test_a_finished_run_is_done_and_names_its_phases_in_order(finished_run):
    job = state.read(finished_run.folder)
    assert (job.state, job.phase, job.pid) == ("done", "turntable", None)
    began = [e["phase"] for e in finished_run.folder.read_events() if e["kind"] == "phase"]
    ended = [e["phase"] for e in finished_run.folder.read_events() if e["kind"] == "phase_done"]
    assert began == ended == PHASES
    heard = [e.values["phase"] for e in finished_run.events if e.kind == "phase"]
    assert heard == PHASES
    assert sum(e.kind == "step" for e in finished_run.events) == 6 + 2


def test_the_report_tells_times_rates_metrics_mesh_checks_memory_and_versions(finished_run):
    report = json.loads(finished_run.folder.report.read_text())
    assert set(report["seconds"]) == {*PHASES, "total"}
    assert report["seconds"]["total"] >= max(report["seconds"][phase] for phase in PHASES)
    stage = report["stages"]["gaussians"]
    assert stage["steps"] == 6 and stage["steps_per_second"] > 0
    assert {"loss", "opacity", "t"} <= set(stage["metrics"])
    assert report["export"]["faces"] > 100 and report["export"]["valid"]
    assert 0.2 < report["memory"]["rss_gb"] < 10
    assert report["versions"]["torch"] == torch.__version__
    assert report["machine"]["cores"] >= 1
    assert report["complete"] and report["turntable"] == "exported mesh"
    assert (report["prompt"], report["seed"]) == ("a red mushroom", 5)


def test_the_pictures_show_the_object_from_all_sides(finished_run):
    sheet = np.asarray(Image.open(finished_run.folder.preview).convert("RGB"))
    assert sheet.shape[1] > 8 * 48 and sheet.shape[0] > 3 * 48
    assert sheet.std() > 5
    frames = decode(finished_run.folder.turntable, height=64, width=128)
    assert len(frames) == 4
    assert frames[0][:, :64].std() > 5 and frames[0][:, 64:].std() > 5


def decode(path: Path, height: int, width: int) -> np.ndarray:
    """Decode a video into `[frames height width 3]` bytes."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def test_the_glb_looks_like_the_field_it_came_from(finished_run):
    """Re-render the exported file and compare outline and colours with the trained field."""
    from dreamlab.export.files.reload import load_glb
    from dreamlab.ops.triangles.raycast import render_mesh
    from dreamlab.ops.volume.threshold import mean_iou

    trained = load(finished_run.folder)
    mesh = load_glb(finished_run.folder.exports / "model.glb", undo_placement=True)
    cameras = trained.stage.view_around(5, turned=11.0, elevation=20.0)
    white = torch.ones(3)
    field = trained.stage.render(cameras, 96, 96, background=white)
    model = render_mesh(mesh, cameras, 96, 96)
    assert mean_iou(field.alpha > 0.5, model.alpha > 0.5) > 0.97
    inside = ((field.alpha > 0.98) & (model.alpha > 0.98))[..., 0]
    assert inside.float().mean() > 0.01
    assert (field.rgb[inside] - model.rgb[inside]).abs().mean() < 0.05


def load(folder: RunFolder):
    """Load what a run has trained."""
    from dreamlab.training.loop import load_trained

    config = load_run_config(folder.config)
    return load_trained(
        config.stages,
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        seed=config.seed,
        folder=folder,
        device=torch.device("cpu"),
    )


def test_the_configuration_of_a_run_gives_the_same_settings_again(finished_run):
    config = load_run_config(finished_run.folder.config)
    assert to_plain(config) == load_yaml(finished_run.folder.config)
    assert load_run_config(finished_run.folder.config, seed=9) == replace(config, seed=9)


def test_repeating_a_run_from_its_configuration_gives_the_same_field(
    finished_run, tmp_path_factory
):
    config = load_run_config(finished_run.folder.config)
    again = prepare(config, tmp_path_factory.mktemp("again"))
    generate(config, again, device="cpu")
    first, second = load(finished_run.folder).stage.state(), load(again).stage.state()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_cannot_be_resumed_but_says_what_can_be_done(finished_run):
    with pytest.raises(InputError, match="dreamlab export"):
        resume(finished_run.folder)


def test_a_run_is_exported_again_with_other_settings_and_formats(finished_run):
    exported = export_job.export(
        finished_run.folder.root,
        formats=["glb", "stl"],
        overrides=["export.max_faces=400"],
        device="cpu",
    )
    assert [path.name for path in exported.files] == ["model.glb", "model.stl"]
    assert all(path.is_file() for path in exported.files)
    assert exported.report.faces <= 400
    assert state.read(finished_run.folder).state == "done"
    report = json.loads(finished_run.folder.report.read_text())
    assert report["export"]["faces"] == exported.report.faces
    assert report["export_settings"]["max_faces"] == 400


def test_a_worker_exports_what_was_asked_of_the_queue_and_says_what_goes_wrong(finished_run):
    folder = finished_run.folder

    def carry_out(*overrides: str, stop: StopFlag) -> int:
        exports.ask(folder, overrides)
        with state.held(folder):
            state.begin(folder, "cpu", is_queued=True)
            return worker.carry_out_run(folder, "cpu", stop)

    asked = ("export.formats=[glb, ply]", "export.max_faces=300")
    assert carry_out(*asked, stop=StopFlag()) == 0
    report = json.loads(folder.report.read_text())
    assert report["export"]["faces"] <= 300 and (folder.exports / "model.ply").is_file()
    assert (state.read(folder).state, state.read(folder).reason) == ("done", "")
    assert carry_out("export.max_faces=3", stop=StopFlag()) == 2
    job = state.read(folder)
    assert job.state == "done" and exports.FAILED in job.reason and "max_faces" in job.reason
    for wish, after in (("cancel", "done"), ("hand_back", "queued")):
        stop = StopFlag()
        stop.set(wish)
        assert carry_out(stop=stop) == 130 and state.read(folder).state == after
    wanted = exports.read(folder)
    assert wanted is not None and wanted.attempts == 0
    exports.write(folder, replace(wanted, attempts=exports.MAX_ATTEMPTS))
    with state.held(folder):
        state.begin(folder, "cpu", is_queued=True)
        assert worker.carry_out_run(folder, "cpu", StopFlag()) != 0
    job = state.read(folder)
    assert job.state == "done" and "ended 2 times" in job.reason and exports.read(folder) is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"overrides": ["stages.gaussians.steps=3"]}, "only those that begin with"),
        ({"overrides": ["export.max_fces=3"]}, "max_faces"),
        ({"formats": ["dae"]}, "dae"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_a_bad_setting_of_an_export_is_refused_and_the_run_stays_done(finished_run, options, word):
    before = (finished_run.folder.exports / "model.glb").read_bytes()
    with pytest.raises(InputError, match=word):
        export_job.export(finished_run.folder.root, **options)
    assert state.read(finished_run.folder).state == "done"
    assert (finished_run.folder.exports / "model.glb").read_bytes() == before


def test_formats_of_blender_are_refused_early_where_it_is_missing(
    finished_run, small_settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("DREAMLAB_BLENDER_PYTHON", str(tmp_path / "none"))
    with pytest.raises(MissingError, match="fbx"):
        export_job.export(finished_run.folder.root, formats=["fbx"])
    assert state.read(finished_run.folder).state == "done"
    with pytest.raises(MissingError, match="usdz"):
        prepare(small_config([*small_settings, "export.formats=[usdz]"]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_run_exports_what_it_has_and_can_be_resumed_to_its_end(tmp_path, small_settings):
    config, stop = small_config(small_settings), StopFlag()
    folder = prepare(config, tmp_path)

    def stop_at_three(event) -> None:
        if event.kind == "step" and event.values["step"] == 3:
            stop.set()

    stopped = generate(config, folder, device="cpu", stop=stop, on_event=stop_at_three)
    assert stopped.was_stopped and stopped.files[0].is_file() and folder.turntable.is_file()
    assert state.read(folder).state == "stopped" and not stopped.report["complete"]
    resumed = resume(folder, device="cpu")
    assert not resumed.was_stopped and state.read(folder).state == "done"
    before, after = stopped.report, resumed.report
    assert (
        before["stages"]["gaussians"]["steps"] == 3 and after["stages"]["gaussians"]["steps"] == 6
    )
    assert before["seconds"].keys() == {*PHASES, "total"} - {"mesh"}
    for phase in before["seconds"]:
        assert after["seconds"][phase] > before["seconds"][phase], "times add up"
    assert after["memory"]["rss_gb"] >= before["memory"]["rss_gb"]
    assert (
        after["stages"]["gaussians"]["metrics"].keys()
        == before["stages"]["gaussians"]["metrics"].keys()
    )


def test_a_run_that_was_paused_from_outside_goes_on_to_the_same_field(
    finished_run, tmp_path, small_settings
):
    folder = prepare(load_run_config(finished_run.folder.config), tmp_path)

    def pause_at_three(event) -> None:
        if event.kind == "step" and event.values["step"] == 3:
            assert actions.request(folder, "pause").state == "running"
            time.sleep(4 * control.POLL_SECONDS)

    paused = generate(config_of(folder), folder, device="cpu", on_event=pause_at_three)
    assert paused.was_stopped and not paused.files and not list(folder.exports.iterdir())
    assert state.read(folder).state == "paused" and not folder.control.exists()
    assert load(folder).step < 6
    assert not resume(folder, device="cpu").was_stopped
    first, second = load(finished_run.folder).stage.state(), load(folder).stage.state()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def config_of(folder: RunFolder):
    return load_run_config(folder.config)


@pytest.mark.slow
@pytest.mark.parametrize(("wish", "end"), [("hand_back", "queued"), ("cancel", "cancelled")])
def test_a_worker_that_is_told_to_end_exports_nothing(tmp_path, small_settings, wish, end):
    folder, stop = prepare(small_config(small_settings), tmp_path, is_queued=True), StopFlag()
    stop.set(wish)
    with state.held(folder):
        state.begin(folder, "cpu", is_queued=True)
        outcome = carry_out(folder, device="cpu", stop=stop)
    assert outcome.wish == wish and not outcome.files
    assert (state.read(folder).state, state.read(folder).crashes) == (end, 0)


def test_a_run_of_the_queue_with_damaged_settings_fails_and_is_not_tried_again(
    tmp_path, small_settings
):
    folder = prepare(small_config(small_settings), tmp_path, is_queued=True)
    folder.config.write_text("promt: a ball\n")
    with state.held(folder), pytest.raises(InputError):
        state.begin(folder, "cpu", is_queued=True)
        carry_out(folder, device="cpu")
    job = state.read(folder)
    assert (job.state, job.code) == ("failed", 2) and "promt" in job.reason


def test_a_complete_run_whose_checkpoint_was_removed_is_not_begun_anew(finished_run, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(finished_run.folder.root, root)
    for path in (root / "checkpoints").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(InputError, match="checkpoint was removed"):
        resume(RunFolder(root), device="cpu")


def test_a_run_whose_export_failed_keeps_the_times_and_metrics_of_its_training(
    tmp_path, small_settings, monkeypatch
):
    config = small_config(small_settings)
    folder = prepare(config, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(generate_job, "write_sheet", broken)
        with pytest.raises(RuntimeError, match="broken"):
            generate(config, folder, device="cpu")
    report = resume(folder, device="cpu").report
    assert set(report["seconds"]) == {*PHASES, "total"} and report["seconds"]["gaussians"] > 0
    assert report["stages"]["gaussians"]["steps"] == 6
    assert report["stages"]["gaussians"]["steps_per_second"] > 0
    assert "loss" in report["stages"]["gaussians"]["metrics"]


def broken(*arguments: object) -> None:
    raise RuntimeError("broken")


def test_a_complete_run_can_be_resumed_when_its_stage_gets_more_steps(finished_run, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(finished_run.folder.root, root)
    folder = RunFolder(root)
    text = folder.config.read_text()
    assert text.count("    steps: 2\n") == 1
    folder.config.write_text(text.replace("    steps: 2\n", "    steps: 4\n"))
    outcome = resume(folder, device="cpu")
    assert outcome.report["complete"] and outcome.report["stages"]["mesh"]["steps"] == 4


def test_a_later_stage_that_is_stopped_before_its_first_step_exports_what_it_started_from(
    tmp_path, small_settings
):
    config, stop = small_config(small_settings), StopFlag()
    coarse = config.stages["gaussians"]
    stages = {"coarse": coarse, "fine": replace(coarse, start_from="previous")}
    config = replace(config, stages=stages)
    folder = prepare(config, tmp_path)

    def stop_at_six(event) -> None:
        if event.kind == "step" and event.values["step"] == 6:
            stop.set()

    stopped = generate(config, folder, device="cpu", stop=stop, on_event=stop_at_six)
    assert stopped.was_stopped and stopped.files[0].is_file()
    assert {name: s["steps"] for name, s in stopped.report["stages"].items()} == {
        "coarse": 6,
        "fine": 0,
    }


def test_a_run_that_is_stopped_before_its_first_step_exports_nothing(tmp_path, small_settings):
    config, stop = small_config(small_settings), StopFlag()
    stop.set()
    folder = prepare(config, tmp_path)
    with pytest.raises(DreamlabError) as caught:
        generate(config, folder, device="cpu", stop=stop)
    assert caught.value.code == ExitCode.STOPPED
    assert state.read(folder).state == "stopped" and not list(folder.exports.iterdir())


def test_an_export_that_fails_keeps_the_training_and_says_how_to_try_again(
    tmp_path, small_settings, monkeypatch
):
    config = small_config(small_settings, "export.threshold=1.0e+6")
    config = replace(
        config, stages={"gaussians": config.stages["gaussians"]}
    )  # a mesh has no threshold
    folder = prepare(config, tmp_path)
    with pytest.raises(DreamlabError) as caught:
        generate(config, folder, device="cpu")
    assert f"dreamlab export {folder.root}" in caught.value.fix
    assert state.read(folder).state == "failed"
    assert folder.preview.is_file() and folder.turntable.is_file()
    report = json.loads(folder.report.read_text())
    assert report["export"] is None and report["turntable"] == "trained field"
    exported = export_job.export(folder.root, overrides=["export.threshold=null"], device="cpu")
    assert exported.files[0].is_file()
    assert state.read(folder).state == "done"


def test_a_disk_that_is_full_stops_the_run_with_a_reason_and_a_fix(tmp_path, small_settings):
    config = small_config(small_settings)
    folder = prepare(config, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match="cannot write"):
            generate(config, folder, device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    job = state.read(folder)
    assert job.state == "failed" and "cannot write" in job.reason and "disk" in job.fix
    assert not resume(folder, device="cpu").was_stopped
    assert state.read(folder).state == "done"


def test_a_damaged_checkpoint_is_refused_with_a_reason(tmp_path, small_settings):
    folder = prepare(small_config(small_settings), tmp_path)
    (folder.checkpoints / "last.safetensors").write_bytes(b"not a checkpoint")
    for action in (lambda: resume(folder), lambda: export_job.export(folder.root)):
        with pytest.raises(InputError, match="no checkpoint can be read"):
            action()


def test_a_run_without_a_checkpoint_cannot_be_exported(tmp_path, small_settings):
    folder = prepare(small_config(small_settings), tmp_path)
    with pytest.raises(InputError, match="no checkpoint yet"):
        export_job.export(folder.root)


def test_a_failed_load_is_recorded_in_the_job(tmp_path, small_settings, tiny_model):
    config = small_config(small_settings)
    damaged = tmp_path / "model"
    shutil.copytree(tiny_model, damaged)
    config = replace(config, prior=replace(config.prior, model=str(damaged)))
    folder = prepare(config, tmp_path / "runs")
    (damaged / "model_index.json").write_text("{}")
    with pytest.raises(DreamlabError) as caught:
        generate(config, folder, device="cpu")
    assert caught.value.code == ExitCode.MISSING
    job = state.read(folder)
    assert job.state == "failed" and job.reason == caught.value.message and job.fix
