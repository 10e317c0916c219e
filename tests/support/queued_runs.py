"""Runs that no model is needed for."""

from pathlib import Path
from typing import Any

from dreamlab.core.run_folder import RunFolder, write_text
from dreamlab.jobs import state
from dreamlab.jobs.state import Job


def queued_run(parent: Path, prompt: str = "a ball", seed: int = 0, **fields: Any) -> RunFolder:
    """Make a run; fields of its record may be given."""
    folder = RunFolder.create(parent, prompt, seed)
    write_text(folder.config, f"prompt: {prompt}\nseed: {seed}\nrecipe: toybox\n")
    about = {"is_queued": True, "prompt": prompt, "seed": seed, "recipe": "toybox"}
    state.create(folder, Job(**{**about, **fields}))
    return folder
