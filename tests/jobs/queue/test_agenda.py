"""Claims about the order in which queued runs have their turns."""

import random

import pytest

from dreamlab.jobs.queue.agenda import Agenda
from dreamlab.jobs.state import Job


def some_jobs(chance: random.Random) -> list[Job]:
    """Records with many ties."""
    return [
        Job(
            priority=chance.randint(-2, 2),
            created=chance.choice([1.0, 2.0, 3.0]),
            not_before=chance.choice([0.0, 5.0, 9.0]),
        )
        for _ in range(chance.randint(0, 10))
    ]


def agenda_of(jobs: list[Job]) -> Agenda:
    agenda = Agenda()
    for i, job in enumerate(jobs):
        agenda.add(str(i), job)
    return agenda


@pytest.mark.parametrize("seed", range(50))
def test_runs_whose_time_has_come_have_their_turns_by_priority_then_by_age(seed):
    chance = random.Random(seed)
    jobs, now = some_jobs(chance), chance.choice([0.0, 5.0, 10.0])
    agenda = agenda_of(jobs)
    due = [(i, job) for i, job in enumerate(jobs) if job.not_before <= now]
    due.sort(key=lambda pair: (-pair[1].priority, pair[1].created, str(pair[0])))
    assert agenda.count_ready(now) == len(due)
    assert [agenda.take(now) for _ in due] == [str(i) for i, _ in due]
    assert agenda.take(now) is None and len(agenda) == len(jobs) - len(due)
    assert agenda.count_ready(10.0) == len(agenda)


def test_a_run_is_on_the_agenda_once_and_may_come_again_after_its_turn():
    agenda = agenda_of([Job()])
    agenda.add("0", Job(priority=3))
    assert len(agenda) == 1 and agenda.take(0.0) == "0" and agenda.take(0.0) is None
    agenda.add("0", Job(not_before=5.0))
    assert agenda.take(4.9) is None and agenda.take(5.0) == "0"
