"""What matrices of rules claim of every cell: five steps, and the last two once more."""

from collections.abc import Callable, Collection

import torch

from dreamlab.priors.base import Prior
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.propagation import prior_of
from dreamlab.systems.stage import Stage
from dreamlab.training.trainer import StageTrainer

STEPS, KEPT = 5, 3


def begin(stage: Stage, prior: Prior, prompt: str) -> StageTrainer:
    """Bring a new stage to where its first step is next."""
    texts = {"prompt": prompt, "negative_prompt": "", "seed": 0}
    config, judge = stage.config, prior_of(stage, prior)
    stage.guidance = build_guidance(stage.name, config, judge, **texts, layout=stage.layout)
    stage.keep_reference()
    return StageTrainer(stage, 0)


def check(begun: Callable[[], StageTrainer], unseen: Collection[str] = ()) -> None:
    """Losses are finite, parameters move, and a resumed stage repeats the steps bit for bit.

    Args:
        begun: makes the stage before its first step, of nothing but settings, as a new process
            does.
        unseen: groups of parameters that cannot move.
    """
    trainer = begun()
    groups = {k: ps for k, ps in trainer.stage.parameter_groups().items() if k not in unseen}
    before = {name: [p.detach().clone() for p in group] for name, group in groups.items()}
    learned = [p.detach().clone() for p in trainer.stage.learned_parameters()]
    kept, losses = trainer.capture(), []
    for step in range(STEPS):
        if step == KEPT:
            kept = trainer.capture()
        result, problem = trainer.advance()
        metrics = result.metrics
        bad = [value for name, value in metrics.items() if name.endswith("nonfinite_fraction")]
        assert problem is None and bad and not any(bad)
        losses.append(result.loss)
    assert torch.tensor(losses).isfinite().all()
    for name, group in groups.items():
        moved = [not torch.equal(p, old) for p, old in zip(group, before[name], strict=True)]
        assert any(moved), name
        assert all(p.isfinite().all() for p in group), name
    changed = zip(trainer.stage.learned_parameters(), learned, strict=True)
    assert [not torch.equal(p, old) for p, old in changed].count(True) > 0 or not learned

    resumed = begun()
    resumed.load(kept)
    assert [resumed.advance()[0].loss for _ in range(KEPT, STEPS)] == losses[KEPT:]
    again, whole = resumed.capture().tensors, trainer.capture().tensors
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
