"""What the fake worker's traces tell: who made which steps of a run."""

from itertools import groupby, pairwise

from dreamlab.core.run_folder import RunFolder


def check_attempts(run: RunFolder, steps: int, every: int) -> list[list[int]]:
    """See that a run was done once: one attempt after the other, each from a checkpoint.

    Args:
        run: that is done.
        steps: it has.
        every: so many steps a checkpoint is written.

    Returns:
        The steps of each attempt.
    """
    lines = [tuple(map(int, s.split())) for s in (run.root / "trace.txt").read_text().splitlines()]
    attempts = [
        (pid, [step for _, step in made]) for pid, made in groupby(lines, key=lambda line: line[0])
    ]
    assert len({pid for pid, _ in attempts}) == len(attempts), "two processes took turns"
    for _, made in attempts:
        assert made == list(range(made[0], made[-1] + 1))
    assert attempts[0][1][0] == 1 and attempts[-1][1][-1] == steps
    for (_, before), (_, after) in pairwise(attempts):
        assert before[-1] - every < after[0] <= before[-1] + 1, "more was lost than since the last"
    assert (run.exports / "model.glb").read_text() == str(steps)
    assert not list(run.root.glob(".job.json*.part*"))
    return [made for _, made in attempts]
