"""A session ends without its jobs, and the next session continues with them.

Each session is a real interpreter. All of them use one embedded cloud.
"""

import subprocess
import sys
import textwrap

import pytest

from tests.helpers.functions import nap

LONG = 120


SUBMIT = """
    import sys, time
    import cloudknot as ck

    def wait_for(path):
        import os, time
        while not os.path.exists(path):
            time.sleep(0.02)
        return 42

    future = ck.Knot(name="sessions", func=wait_for).map([sys.argv[1]])
    print(future.job.job_id)
"""


@pytest.fixture
def no_stages(monkeypatch):
    """Hide the stages of a knot, which a slow machine shows on stderr."""
    monkeypatch.setenv("CLOUDKNOT_PROGRESS", "0")


def test_program_ends_after_its_submission_and_another_reads_result(python, tmp_path, no_stages):
    gate = tmp_path / "go"
    submitted = python(SUBMIT, gate)
    assert submitted.stderr == ""
    # The job is still running, since its gate is shut: the first interpreter did not wait for it.
    gate.touch()
    read = python(
        """
        import cloudknot as ck
        job = ck.Knot(name="sessions", cloud="local").jobs[-1]
        print(job.job_id, job.result(60))
        """,
        folder="two",
    )
    assert read.stdout.split() == [submitted.stdout.strip(), "[42]"]


def test_program_waits_for_pending_callbacks_before_it_ends(python, tmp_path, no_stages):
    run = python(
        """
        import sys
        import cloudknot as ck

        def held(path, x):
            import os, time
            while not os.path.exists(path):
                time.sleep(0.02)
            return x + 1

        future = ck.Knot(name="callbacks", func=held).map([(sys.argv[1], 1), (sys.argv[1], 2)], starmap=True)
        future.add_done_callback(lambda f: print("all", f.result()))
        future[1].add_done_callback(lambda f: print("one", f.result()))
        print("the end")
        open(sys.argv[1], "w", encoding="utf-8").close()
        """,
        tmp_path / "go",
    )
    assert run.stderr == ""
    assert sorted(run.stdout.splitlines()) == ["all [2, 3]", "one 3", "the end"]
    assert run.stdout.startswith("the end")


def test_ctrl_c_leaves_job_running(python, cloud, tmp_path):
    import cloudknot as ck

    gate = tmp_path / "go"
    interrupted = python(
        SUBMIT
        + """
    import os, signal, threading
    # A program that a shell started in the background ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    future.result()
""",
        gate,
        check=False,
    )
    assert "KeyboardInterrupt" in interrupted.stderr
    job = ck.BatchJob(interrupted.stdout.strip(), cloud=cloud)
    assert job.status in ("RUNNABLE", "STARTING", "RUNNING")
    gate.touch()
    assert job.result(LONG) == [42]


def test_next_session_reuses_knot_of_function_with_class_of_script(python):
    script = """
        import cloudknot as ck

        class Point:
            kinds = {"red", "green", "blue", "mauve"}
            def __init__(self, x):
                self.x = x

        def move(point):
            if not isinstance(point, Point):
                raise TypeError("another class of the same name")
            return Point(point.x + 1)

        knot = ck.Knot(name="points", func=move)
        moved = knot.map([Point(1)]).result(60)[0]
        print(isinstance(moved, Point), moved.x, knot.job_definition.arn)
    """
    first, second = python(script), python(script)
    assert first.stdout.split()[:2] == ["True", "2"]
    assert second.stdout == first.stdout


def test_local_module_travels_with_local_modules_that_it_imports(python, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "lab.py").write_text(
        textwrap.dedent(
            """
            import cloudknot
            import pytest
            from helper import double
            import math

            class Sample:
                def __init__(self, value):
                    self.value = value

            def analyse(sample):
                assert isinstance(sample, Sample)
                from lazy import triple
                return Sample(math.floor(triple(double(sample.value))))
            """
        )
    )
    (tmp_path / "one" / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "one" / "lazy.py").write_text("def triple(x):\n    return 3 * x\n")
    run = python(
        """
        import cloudknot as ck, lab
        result = ck.Knot(name="lab", func=lab.analyse).map([lab.Sample(1.1)]).result(60)[0]
        print(type(result) is lab.Sample, result.value)
        """
    )
    assert run.stdout.split() == ["True", "6"]


def test_error_without_credentials_suggests_aws_configure_and_local_cloud(tmp_path):
    code = "import cloudknot as ck\nck.Knot(name='pi', func=lambda x: x)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG)
    last = run.stderr.strip().splitlines()[-1]
    assert "CredentialsError: No AWS credentials were found" in last
    assert "aws configure" in last
    assert 'cloud="local"' in last


def test_wait_for_results_ends_when_cloud_is_stopped(tmp_path):
    import cloudknot as ck

    # One vCPU for the job that starts again, and one for another job.
    cloud = ck.LocalCloud(tmp_path, vcpus=2)
    with cloud:
        knot = ck.Knot(name="naps", func=nap, cloud=cloud)
        future = knot.map([600])
        assert cloud.stop()
        with pytest.raises(ck.BatchJobFailedError, match=r"Element 0 .*embedded cloud in .* has stopped.*are kept"):
            future.result(LONG)
        with pytest.raises(ck.CloudError, match=r"embedded cloud in .* has stopped.*`cloudknot local start"):
            knot.map([1])
        cloud.start()
        assert knot.map([0]).result(LONG) == [0]
        future.job.clobber()
        assert cloud.stop()


def test_thread_can_wait_for_results_after_main_thread_has_ended(python, no_stages):
    """The collector thread has ended by then, since no thread waited for results."""
    run = python(
        """
        import concurrent.futures, threading, time
        import cloudknot as ck

        def nap(x):
            import time
            time.sleep(2)
            return x

        def program():
            future = ck.Knot(name="outlives", func=nap).map([1, 2])
            while any(thread.name == "cloudknot-collector" for thread in threading.enumerate()):
                time.sleep(0.05)
            done, _ = concurrent.futures.wait([*future, future], timeout=100)
            print(len(done), future.result())

        threading.Thread(target=program).start()
        """
    )
    assert (run.stdout.strip(), run.stderr) == ("3 [1, 2]", "")
