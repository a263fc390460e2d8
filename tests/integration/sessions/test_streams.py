"""A map keeps its future in programs whose standard streams are missing, closed or broken: daemons and GUIs."""

STREAMS = """
    import io, logging, os, sys, threading
    import cloudknot as ck

    class Bare:
        "A stream of a GUI: it has a place for text, and nothing else."
        def __init__(self): self.text = ""
        def write(self, text): self.text += text

    class Broken(io.StringIO):
        "A terminal that is gone."
        def isatty(self): return True
        def write(self, text): raise OSError(5, "Input/output error")
        flush = write

    def closed():
        stream = open(os.devnull, "w")
        stream.close()
        return stream

    def double(x):
        return 2 * x

    report = sys.stdout
    found = []
    try:
        for stream in (None, closed(), Bare(), Broken()):
            sys.stdout = sys.stderr = stream
            # Making a knot announces its stages and warns about its costs.
            knot = ck.Knot(name="streams", func=double, min_vcpus=1)
            logging.getLogger("cloudknot").warning("lost") if stream is None else None
            for progress in (None, True):
                future = knot.map([1, 2], progress=progress)
                found.append((type(stream).__name__, future.result(60)))
                # The display of progress restores the streams when its thread ends.
                [thread.join() for thread in threading.enumerate() if thread.name == "cloudknot-collector"]
    finally:
        sys.stdout = sys.stderr = report
    for name, result in found:
        print(name, result)
    """


def test_map_returns_future_whatever_the_streams_are(python):
    run = python(STREAMS)
    names = ["NoneType", "TextIOWrapper", "Bare", "Broken"]
    assert run.stdout.splitlines() == [f"{name} [2, 4]" for name in names for _ in range(2)], run.stderr


def test_map_returns_future_on_machine_that_cannot_start_threads(python):
    run = python(
        """
        import threading
        import cloudknot as ck

        def double(x):
            return 2 * x

        knot = ck.Knot(name="streams", func=double)
        # The system has no room for such a stack, so it starts no thread.
        threading.stack_size(1 << 46)
        future = knot.map([1, 2])
        try:
            future.result(60)
        except RuntimeError as error:
            print(error)
        threading.stack_size(0)
        print(future.result(60))
        """
    )
    assert run.stdout.splitlines() == ["can't start new thread", "[2, 4]"]
    assert "This machine cannot start a thread to collect results" in run.stderr


def test_map_in_session_that_forbids_comparisons_of_bytes_and_text(python):
    run = python(
        """
        import sys
        import cloudknot as ck

        def both(x, y):
            return (x, y, str(y))

        knot = ck.Knot(name="streams-bytes", func=both)
        print(sys.flags.bytes_warning, knot.map([(b"a", "a"), ("b", 1)], starmap=True).result(60), len(knot.jobs))
        knot.clobber()
        """,
        options=("-bb",),
    )
    assert run.stdout.splitlines()[-1] == "2 [(b'a', 'a', 'a'), ('b', 1, '1')] 1"
