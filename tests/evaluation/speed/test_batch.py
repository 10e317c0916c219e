"""Claims about the overhead of batches."""

from dreamlab.evaluation.speed.batch import Overhead, measure


def test_overhead_is_the_time_that_places_spend_beside_the_rows():
    assert Overhead(4, 2, sleep=1.0, wall=3.0, leader_cpu=0.2).row_overhead == 0.5
    assert Overhead(1, 8, sleep=1.0, wall=3.0, leader_cpu=0.2).row_overhead == 2.0
    assert Overhead(4, 2, sleep=1.0, wall=3.0, leader_cpu=0.2).row_cpu == 0.05


def test_rows_that_sleep_are_carried_out_by_real_workers(tmp_path):
    took = measure(tmp_path, ["cpu", "cpu"], None, rows=2, sleep=0.3)
    assert took.wall > 0.3 and took.leader_cpu > 0
    assert len(list(tmp_path.glob("*/job.json"))) == 2 and (tmp_path / "results.csv").is_file()
