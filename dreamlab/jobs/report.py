"""report.json: what a run took and what came out, for people and for benchmarks."""

from typing import Any

from dreamlab.core.config import to_plain
from dreamlab.jobs.export import Exported
from dreamlab.jobs.ledger import Ledger
from dreamlab.jobs.machine import machine_class, versions
from dreamlab.jobs.recipes import RunConfig
from dreamlab.training.loop import Trained


def make_report(
    config: RunConfig, trained: Trained, exported: Exported | None, ledger: Ledger
) -> dict[str, Any]:
    """Gather timings, metrics, mesh statistics, validation, memory, versions and machine.

    Times, rates and memory are of all processes of the run, see `ledger.py`.
    """
    return {
        "prompt": config.prompt,
        "negative_prompt": config.negative_prompt,
        "seed": config.seed,
        "recipe": config.recipe,
        "quality": config.quality,
        "model": config.prior.model,
        "boxes": 0 if config.layout is None else len(config.layout),
        "device": str(trained.stage.device),
        "complete": trained.is_finished,
        "seconds": ledger.seconds | {"total": ledger.total},
        "stages": {name: _stage(name, trained, ledger) for name in config.stages},
        "export": exported.report.to_plain() if exported else None,
        "export_settings": to_plain(config.export),
        "memory": ledger.memory,
        "memory_rungs": ledger.rungs,
        "machine": machine_class(),
        "versions": versions(),
    }


def _stage(name: str, trained: Trained, ledger: Ledger) -> dict[str, Any]:
    steps, seconds = trained.steps[name], ledger.seconds.get(name, 0.0)
    return {
        "steps": steps,
        "steps_per_second": round(steps / seconds, 3) if steps and seconds > 0 else None,
        "metrics": ledger.metrics.get(name, {}),
    }
