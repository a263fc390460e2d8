"""What happens at the end of a Python session, and in the next one: real interpreters, one cloud."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from tests.helpers.functions import nap

LONG = 120


@pytest.fixture
def python(cloud, tmp_path):
    """Run a script in an interpreter of its own, in a directory of its own."""

    def run(script, *arguments, folder="one", check=True):
        directory = tmp_path / folder
        directory.mkdir(exist_ok=True)
        path = directory / "script.py"
        path.write_text(textwrap.dedent(script))
        environment = {**os.environ, "CLOUDKNOT_LOCAL_DIR": str(cloud.directory), "CLOUDKNOT_CLOUD": "local"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [os.getcwd(), environment.get("PYTHONPATH")]))
        return subprocess.run(
            [sys.executable, str(path), *map(str, arguments)],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LONG,
            check=check,
        )

    return run


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


def test_a_program_that_only_submitted_ends_and_another_reads_the_result(python, tmp_path):
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


def test_a_program_with_callbacks_outstanding_waits_for_them(python, tmp_path):
    run = python(
        """
        import time
        import cloudknot as ck

        def slow(x):
            import time
            time.sleep(0.5)
            return x + 1

        future = ck.Knot(name="callbacks", func=slow).map([1, 2])
        future.add_done_callback(lambda f: print("all", f.result()))
        future[1].add_done_callback(lambda f: print("one", f.result()))
        print("the end")
        """
    )
    assert run.stderr == ""
    assert sorted(run.stdout.splitlines()) == ["all [2, 3]", "one 3", "the end"]
    assert run.stdout.startswith("the end")


def test_ctrl_c_leaves_the_job_running(python, cloud, tmp_path):
    import cloudknot as ck

    gate = tmp_path / "go"
    interrupted = python(
        SUBMIT
        + """
    import os, signal, threading
    # What was started in the background of a shell ignores Ctrl-C.
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


def test_classes_of_the_main_script_are_the_same_in_the_next_session(python):
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


def test_a_local_module_travels_and_needs_only_what_the_function_uses(python, tmp_path):
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


def test_without_credentials_one_clear_error_names_both_ways_out(tmp_path):
    code = "import cloudknot as ck\nck.Knot(name='pi', func=lambda x: x)"
    begun = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG)
    last = run.stderr.strip().splitlines()[-1]
    assert "CredentialsError: No AWS credentials were found" in last
    assert "aws configure" in last
    assert 'cloud="local"' in last
    assert time.monotonic() > begun


def test_a_wait_ends_when_the_cloud_is_stopped(tmp_path):
    import cloudknot as ck

    cloud = ck.LocalCloud(tmp_path)
    with cloud:
        knot = ck.Knot(name="naps", func=nap, cloud=cloud)
        future = knot.map([600])
        assert cloud.stop()
        with pytest.raises(ck.BatchJobFailedError, match=r"Element 0 .*embedded cloud at .* has ended") as caught:
            future.result(LONG)
        assert "stay stored" not in str(caught.value)
        with pytest.raises(ck.CloudError, match=r"embedded cloud at .* has ended"):
            knot.map([1])
        cloud.start()
        assert ck.Knot(name="naps", func=nap, cloud=cloud).map([0]).result(LONG) == [0]
        assert cloud.stop()


def test_a_thread_that_outlives_the_main_one_can_wait(python):
    """The collector has left by then, since nobody waited."""
    done = python(
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
    assert (done.stdout.strip(), done.stderr) == ("3 [1, 2]", "")
