"""The output of attempts reaches the log whole: long lines, much output, and failures of the log service."""

import random
import threading
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from cloudknot.aws.batch import LONGEST_MESSAGE, LogStream, log_pages
from cloudknot.local.batch import logs
from cloudknot.local.batch.logs import MAX_EVENTS, READ_SIZE, LogShipper, batches
from tests.helpers.waiting import until

PAGE = 1000


@dataclass
class Stream:
    """A log stream in memory, with the limits of a PutLogEvents call. It refuses the calls with these numbers."""

    refused: tuple = ()

    def __post_init__(self):
        self.messages, self.calls = [], 0

    def append(self, group, stream, messages):
        assert (group, stream) == ("group", "stream")
        self.calls += 1
        if self.calls in self.refused:
            raise ConnectionError(f"call {self.calls}")
        sizes = [len(message.encode()) + 26 for message in messages]
        assert 0 < len(sizes) <= MAX_EVENTS
        assert sum(sizes) <= 1_048_576
        assert max(sizes) <= 262_144
        self.messages += messages

    def get_log_events(self, **arguments):
        start = int(arguments.get("nextToken", "0"))
        page = self.messages[start : start + PAGE]
        return {"events": [{"message": text} for text in page], "nextForwardToken": str(start + len(page))}

    @property
    def lines(self):
        """The lines that `BatchJob.logs` yields."""
        pages = log_pages(self.get_log_events, LogStream("group", "stream"))
        return [line for lines, _ in pages for line in lines]


def shipped(tmp_path, text, stream, in_pieces=1):
    """Return what the stream has after an attempt has printed a text, in several pieces."""
    path, task = tmp_path / "output", SimpleNamespace(id="1", log_group="group", log_stream="stream")
    path.touch()
    shipper = LogShipper(stream.append)
    data, step = text.encode(), -(-len(text.encode()) // in_pieces)
    with path.open("ab", buffering=0) as file:
        shipper.follow(task, path)
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
            with shipper._changed:
                shipper._changed.notify_all()
    shipper.follow(task, None)
    until(lambda: not path.exists())
    shipper.close()
    return stream.lines


def lines_of(number, size):
    return [f"{index:07d} " + "x" * size for index in range(number)]


@pytest.mark.parametrize("in_pieces", [1, 7])
def test_lines_beyond_a_buffer_stay_whole(tmp_path, in_pieces):
    lines = lines_of(3 * READ_SIZE // 90, 80)
    assert shipped(tmp_path, "\n".join([*lines, "the end", ""]), Stream(), in_pieces) == [*lines, "the end"]


LONG = {
    "a full event": "y" * LONGEST_MESSAGE,
    "one byte more": "y" * (LONGEST_MESSAGE + 1),
    "two events": "y" * (2 * LONGEST_MESSAGE),
    "longer than a buffer": "z" * (2 * READ_SIZE + 77),
    "wide characters": "xé€😀" * 700_000,
}


@pytest.mark.parametrize("line", LONG.values(), ids=LONG)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_long_line_is_one_line_again(tmp_path, line, end):
    # A line of exactly this length cannot be told from a cut one.
    after = ["after"] if end and len(line) % LONGEST_MESSAGE else []
    assert shipped(tmp_path, f"before\n{line}{end}{''.join(after)}", Stream()) == ["before", line, *after]


def test_refused_calls_lose_and_repeat_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "INTERVAL", 0.001)
    lines = lines_of(2 * READ_SIZE // 90, 80)
    stream = Stream(refused=(1, 3, 4, 7))
    assert shipped(tmp_path, "\n".join(lines), stream) == lines


def test_output_stays_on_disk_if_log_service_never_works(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logs, "INTERVAL", 0.001)
    path, task = tmp_path / "output", SimpleNamespace(id="1", log_group="group", log_stream="stream")
    path.write_text("one\ntwo\n")
    stream = Stream(refused=range(1, 1000))
    shipper = LogShipper(stream.append)
    shipper.follow(task, path)
    shipper.follow(task, None)
    until(lambda: any(f"The rest stays in {path}." in record.getMessage() for record in caplog.records))
    shipper.close()
    assert path.read_text() == "one\ntwo\n"
    assert not any(thread.name == "log-shipper" for thread in threading.enumerate())


@pytest.mark.parametrize("number", range(20))
def test_batches_have_every_byte_and_no_empty_message(number):
    chance = random.Random(number)
    data = "".join(chance.choices(["a" * 300_000, "é", "b", "\n", "\r", "\r\n", "😀" * 70_000], k=40)).encode()
    made = list(batches(data))
    assert sum(size for _, size in made) == len(data)
    messages = [message for batch, _ in made for message in batch]
    assert all(messages)
    assert "".join(messages) == "".join(data.decode().replace("\r", "\n").split("\n"))
