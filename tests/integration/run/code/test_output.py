"""Much output of a job, and lines of any length, in `BatchJob.logs`."""

from tests.helpers.waiting import until

LONG = 120
LINES = 70_000


def print_much(width):
    for number in range(LINES):
        print(f"{number:06d}", "x" * 80)
    print("é" * width)
    print("the end")


def test_all_lines_of_six_mebibytes_are_whole(process_knot_of):
    future = process_knot_of(print_much).map([900_000])
    future.result(LONG)
    lines = until(lambda: (lines := list(future.job.logs())) and lines[-1] == "the end" and lines)
    assert lines == [*(f"{number:06d} {'x' * 80}" for number in range(LINES)), "é" * 900_000, "the end"]
