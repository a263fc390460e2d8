"""The line about sent bytes appears for large images only, and a stopped session sends no more."""

import threading

import pytest

from cloudknot.image.assembly.progress import SHOWN_FROM, NotebookLine, SentBytes, StoppedError


def test_line_appears_for_large_image_only(capfd):
    with SentBytes("Sending the image", shown=True) as sent:
        sent.add(1000)
    assert capfd.readouterr().err == ""
    with SentBytes("Sending the image", shown=True) as sent:
        sent.add(SHOWN_FROM)
        sent.add(-1000)
        assert sent.total == SHOWN_FROM - 1000
    assert "Sending the image" in capfd.readouterr().err


@pytest.mark.parametrize("choice", ["0", "no"])
def test_line_can_be_switched_off(choice, capfd, monkeypatch):
    monkeypatch.setenv("CLOUDKNOT_PROGRESS", choice)
    with SentBytes("Sending the image") as sent:
        sent.add(2 * SHOWN_FROM)
        sent.add(1)
    assert capfd.readouterr().err == ""


def test_stopped_session_sends_no_more():
    stop = threading.Event()
    with SentBytes("Sending the image", shown=False, stop=stop) as sent:
        sent.add(1)
        stop.set()
        with pytest.raises(StoppedError):
            sent.add(1)


def test_line_in_notebook_shows_few_of_many_updates_and_last_one():
    shown = []
    line = NotebookLine("Sending the image", shown.append)
    for total in range(SHOWN_FROM, SHOWN_FROM + 100):
        line.update(total)
    line.end(25_000_000)
    assert shown[0] == ["Sending the image: 1.0 MB"]
    assert shown[-1] == ["Sending the image: 25.0 MB"]
    assert len(shown) < 50
