"""`NotebookBar` draws at most twice a second and leaves its last drawing. Clock and display are fakes."""

from cloudknot.display.notebook import PAUSE, NotebookBar


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
        bar.update(ended, f"{ended}/1,000", "")
        clock.now += PAUSE / 100
    bar.close()
    assert display.texts[0] == "pi: 0/1,000"
    assert display.texts[-1] == "pi: 900/1,000"
    # The empty bar, one drawing after each PAUSE, and the last one.
    assert len(display.texts) == 1 + 8 + 1


def test_bar_draws_final_state_immediately_and_nothing_afterwards():
    clock, display = Clock(), Display()
    bar = NotebookBar("pi", 3, clock, display)
    bar.update(3, "3/3, 1 failed", "")
    assert display.texts == ["pi: 0/3", "pi: 3/3, 1 failed"]
    clock.now += 2 * PAUSE
    bar.update(3, "3/3, 1 failed", "")
    bar.close()
    assert len(display.texts) == 2


def test_bar_shows_escaped_reason_while_jobs_wait():
    clock, display = Clock(), Display()
    bar = NotebookBar("pi", 3, clock, display)
    clock.now += PAUSE
    bar.update(1, "1/3", "pi: a job is waiting. AWS reports: [bold]<b>MISCONFIGURATION")
    assert display.texts[-1] == "pi: 1/3\npi: a job is waiting. AWS reports: [bold]<b>MISCONFIGURATION"
    html = display.shown[-1]["text/html"]
    assert "━" in html
    assert "AWS reports: [bold]&lt;b&gt;MISCONFIGURATION" in html
    clock.now += PAUSE
    bar.update(1, "1/3, 2 running", "")
    assert display.texts[-1] == "pi: 1/3, 2 running"
    assert "AWS reports" not in display.shown[-1]["text/html"]


def test_bar_has_colours_and_little_markup():
    display = Display()
    NotebookBar("a&b", 3, Clock(), display).update(3, "3/3", "")
    html = display.shown[-1]["text/html"]
    assert html.startswith("<pre style=")
    assert "a&amp;b" in html
    assert "color: #" in html
    assert "{" not in html
    # The output of a cell is saved with the notebook, so its size matters.
    assert len(html) < 1500
