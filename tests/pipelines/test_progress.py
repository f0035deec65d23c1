"""Progress is told at a rate that one can read, however slow the work."""

import pytest
from rich.progress import Progress

from pipelines.progress import Rate, as_rate


@pytest.mark.parametrize(
    ("per_second", "told"),
    [(0.004, "0.2/min"), (0.4, "24.0/min"), (1, "1.0/s"), (9.96, "10.0/s"), (1234.5, "1,234/s")],
)
def test_a_rate_is_per_minute_where_a_second_is_too_short(per_second, told):
    assert as_rate(per_second) == told


def test_a_bar_that_is_slow_shows_no_rate_of_nothing():
    clock = iter(range(0, 1000, 4))
    progress = Progress(get_time=lambda: next(clock))
    task = progress.add_task("slow", total=10)
    for _ in range(3):
        progress.advance(task)

    (shown,) = (Rate().render(task) for task in progress.tasks)

    assert shown.plain.endswith("/min")
