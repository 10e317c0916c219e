"""report.json: what a run took and what came out, for people and for benchmarks."""

from typing import Any

from dreamlab.core.config import to_plain
from dreamlab.jobs.export import Exported
from dreamlab.jobs.machine import machine_class, peak_memory, versions
from dreamlab.jobs.phases import Phases
from dreamlab.jobs.recipes import RunConfig
from dreamlab.training.loop import Trained


def make_report(
    config: RunConfig, trained: Trained, exported: Exported | None, phases: Phases
) -> dict[str, Any]:
    """Gather timings, metrics, mesh statistics, validation, memory, versions and machine.

    Times, rates and memory are of this process; a resumed run does not count what came before.
    """
    return {
        "prompt": config.prompt,
        "negative_prompt": config.negative_prompt,
        "seed": config.seed,
        "recipe": config.recipe,
        "quality": config.quality,
        "model": config.prior.model,
        "device": str(trained.stage.device),
        "complete": trained.is_finished,
        "seconds": phases.seconds | {"total": round(phases.total_seconds, 3)},
        "stages": {name: _stage(name, trained, phases) for name in config.stages},
        "export": exported.report.to_plain() if exported else None,
        "export_settings": to_plain(config.export),
        "memory": peak_memory(),
        "machine": machine_class(),
        "versions": versions(),
    }


def _stage(name: str, trained: Trained, phases: Phases) -> dict[str, Any]:
    steps, seconds = phases.steps[name], trained.seconds.get(name, 0.0)
    return {
        "steps": steps,
        "steps_per_second": round(steps / seconds, 3) if seconds > 0 else None,
        "metrics": phases.last_metrics(name),
    }
