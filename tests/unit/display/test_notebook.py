"""`NotebookBar` draws at most twice a second and leaves its last drawing. Clock and display are fakes."""

from cloudknot.display.notebook import PAUSE, NotebookBar, NotebookLines
from cloudknot.display.picture import Picture
from cloudknot.display.terminal import DONE, FAILED, RUNNING


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self):
        return self.now


class Display:
    """A display that keeps all its drawings."""

    def __init__(self):
        self.shown = []

    def __call__(self, drawing):
        self.update(drawing, raw=True)
        return self

    def update(self, drawing, raw):
        assert raw
        self.shown.append(drawing)

    @property
    def texts(self):
        return [drawing["text/plain"] for drawing in self.shown]


def test_bar_draws_only_some_of_many_updates_and_always_last_one():
    clock, display = Clock(), Display()
    bar = NotebookBar("pi", 1000, clock, display)
    for ended in range(1, 901):
        bar.update(Picture(ended, f"{ended}/1,000"))
        clock.now += PAUSE / 100
    bar.close()
    assert display.texts[0] == "pi: 0/1,000"
    assert display.texts[-1] == "pi: 900/1,000"
    # The empty bar, one drawing after each PAUSE, and the last one.
    assert len(display.texts) == 1 + 8 + 1


def test_bar_draws_final_state_immediately_and_nothing_afterwards():
    clock, display = Clock(), Display()
    bar = NotebookBar("pi", 3, clock, display)
    bar.update(Picture(3, "3/3, 1 failed", 1))
    assert display.texts == ["pi: 0/3", "pi: 3/3, 1 failed"]
    clock.now += 2 * PAUSE
    bar.update(Picture(3, "3/3, 1 failed", 1))
    bar.close()
    assert len(display.texts) == 2


def test_bar_shows_escaped_reason_while_jobs_wait():
    clock, display = Clock(), Display()
    bar = NotebookBar("pi", 3, clock, display)
    clock.now += PAUSE
    bar.update(Picture(1, "1/3", reason="pi: a job is waiting. AWS reports: [bold]<b>MISCONFIGURATION"))
    assert display.texts[-1] == "pi: 1/3\npi: a job is waiting. AWS reports: [bold]<b>MISCONFIGURATION"
    html = display.shown[-1]["text/html"]
    assert "━" in html
    assert "AWS reports: [bold]&lt;b&gt;MISCONFIGURATION" in html
    clock.now += PAUSE
    bar.update(Picture(1, "1/3, 2 running"))
    assert display.texts[-1] == "pi: 1/3, 2 running"
    assert "AWS reports" not in display.shown[-1]["text/html"]


def test_bar_has_colours_and_little_markup():
    display = Display()
    NotebookBar("a&b", 3, Clock(), display).update(Picture(3, "3/3"))
    html = display.shown[-1]["text/html"]
    assert html.startswith("<pre style=")
    assert "a&amp;b" in html
    assert "color: #" in html
    assert "{" not in html
    # The output of a cell is saved with the notebook, so its size matters.
    assert len(html) < 1500


def test_bar_has_colour_of_failure_only_after_one():
    """rich draws bars in pink by default, which looks like an error."""
    clock, display = Clock(), Display()
    bar = NotebookBar("pi", 3, clock, display)
    for picture, shown, hidden in [
        (Picture(1, "1/3"), RUNNING, FAILED),
        (Picture(2, "2/3, 1 failed", 1, "element 1 failed: <b>"), FAILED, RUNNING),
        (Picture(3, "3/3, 1 failed", 1, "element 1 failed: <b>"), FAILED, DONE),
    ]:
        clock.now += PAUSE
        bar.update(picture)
        html = display.shown[-1]["text/html"]
        assert shown in html
        assert hidden not in html
        assert "#f92672" not in html
    assert "element 1 failed: &lt;b&gt;" in html
    assert display.texts[-1] == "pi: 3/3, 1 failed\nelement 1 failed: <b>"
    healthy = Display()
    NotebookBar("pi", 3, clock, healthy).update(Picture(3, "3/3"))
    assert DONE in healthy.shown[-1]["text/html"]


def test_lines_appear_with_first_one_and_replace_each_other():
    display = Display()
    lines = NotebookLines(display)
    assert display.shown == []
    lines.show(["pi: packing ..."])
    lines.show(["pi: packing ... (2 s)", "pi: ready <b>"])
    assert display.texts == ["pi: packing ...", "pi: packing ... (2 s)\npi: ready <b>"]
    assert "&lt;b&gt;" in display.shown[-1]["text/html"]
