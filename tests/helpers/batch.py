"""A client for tests of Batch, and the image of a worker whose commands make each kind of ending."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from cloudknot.image.publish import publish
from cloudknot.program.packages.lock import LocalWheel, Lock
from cloudknot.program.packages.target import InstallTarget
from tests.helpers.waiting import until

WORKER = ["python", "-m", "cloudknot_worker"]
"""The start of a job's command. The name of a function in `WORKER_SOURCE` and its arguments follow."""

WORKER_SOURCE = """
import atexit, json, os, signal, subprocess, sys, threading, time

def warm():
    pass

def main(argv):
    name, *rest = argv
    return globals()[name](*rest)

def show():
    print(json.dumps({"environment": dict(os.environ), "directory": os.getcwd(), "files": os.listdir(),
                      "path": sys.path, "prefix": sys.prefix}))

def leave(code):
    os._exit(int(code))

def fall(number):
    os.kill(os.getpid(), int(number))
    time.sleep(60)

def sys_exit(text):
    sys.exit(text)

def throw():
    raise RuntimeError("thrown by the job")

def once():
    return 0 if os.environ["AWS_BATCH_JOB_ATTEMPT"] == "2" else 5

def fail_if(index):
    return int(os.environ["AWS_BATCH_JOB_ARRAY_INDEX"] == index)

def family(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(path + ".new", "w") as stream:
        stream.write(f"{os.getpid()} {child.pid}")
    os.rename(path + ".new", path)
    time.sleep(600)

def linger():
    atexit.register(lambda: (print("atexit function"), sys.exit(3)))
    threading.Thread(target=lambda: (time.sleep(0.3), print("thread"))).start()
    return 7

def nap():
    time.sleep(0.2)

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def escape(path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    with open(path + ".new", "w") as stream:
        stream.write(str(child.pid))
    os.rename(path + ".new", path)
    wait_for(path + ".go")

def escape_without_a_trace(path):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(path + ".new", "w") as stream:
                stream.write(str(os.getpid()))
            os.rename(path + ".new", path)
            time.sleep(600)
        os._exit(0)
    wait_for(path)

def talk(path):
    print("first line")
    while not os.path.exists(path):
        time.sleep(0.01)
    print("last line", end="")
"""
"""The worker's module. A file is written under another name first, so that a test never reads half of it."""
NO_PACKAGES = Lock(InstallTarget.this_machine(), ())


@dataclass(frozen=True)
class Image:
    """An image with the worker of `WORKER_SOURCE`, by default without packages."""

    tag: str
    lock: Lock = NO_PACKAGES
    environment_digest: str = "none"
    nocache: bool = False
    extra_tags: tuple[str, ...] = ()
    needs_engine: str = ""
    wheels: tuple[LocalWheel, ...] = ()
    has_environment_stage: bool = False
    files: dict = field(
        default_factory=lambda: {
            "cloudknot_worker/__init__.py": b"",
            "cloudknot_worker/__main__.py": WORKER_SOURCE.encode(),
        }
    )


class Client:
    """A client of Batch in one cloud, with a queue ``main`` and a job definition ``worker``."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.connect()
        self.image = publish(cloud, Image("worker"), cloud.repository("tests"))
        role = cloud.call("iam", "create_role", RoleName="service", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self.batch.create_compute_environment(computeEnvironmentName="env", type="UNMANAGED", serviceRole=role)
        self.queue("main")
        self.define("worker", self.image)

    def connect(self):
        """Connect to the cloud, or to its next server."""
        self.batch, self.logs = self.cloud.client("batch"), self.cloud.client("logs")

    def queue(self, name):
        """Create a job queue."""
        order = [{"order": 1, "computeEnvironment": "env"}]
        self.batch.create_job_queue(jobQueueName=name, state="ENABLED", priority=1, computeEnvironmentOrder=order)

    def define(self, name, image, **choices):
        """Register a job definition."""
        container = {"image": image, "vcpus": 1, "memory": 128, "command": ["true"], **choices}
        self.batch.register_job_definition(jobDefinitionName=name, type="container", containerProperties=container)

    def submit(self, *command, size=None, environment=None, **choices):
        """Submit a job, or an array job with ``size`` children, and return its id."""
        overrides = {"command": list(command)} if command else {}
        if environment:
            overrides["environment"] = [{"name": name, "value": value} for name, value in environment.items()]
        if size:
            choices["arrayProperties"] = {"size": size}
        settings = {"jobName": "job", "jobQueue": "main", "jobDefinition": "worker", **choices}
        return self.batch.submit_job(**settings, containerOverrides=overrides)["jobId"]

    def describe(self, job_id):
        return self.batch.describe_jobs(jobs=[job_id])["jobs"][0]

    def wait(self, job_id, *statuses):
        """Wait until a job has one of the statuses, by default an end, and return its description."""
        return until(lambda: (job := self.describe(job_id))["status"] in (statuses or ("SUCCEEDED", "FAILED")) and job)

    def run(self, *command, **choices):
        """Submit a command of the worker and return the description of the ended job."""
        return self.wait(self.submit(*WORKER, *command, **choices))

    def lines(self, stream):
        """Return the messages in a log stream, or none before the stream exists."""
        try:
            events = self.logs.get_log_events(logGroupName="/aws/batch/job", logStreamName=stream, startFromHead=True)
        except self.logs.exceptions.ResourceNotFoundException:
            return []
        return [event["message"] for event in events["events"]]

    def shown(self, job_id):
        """Wait for a job that runs ``show`` and return its output."""
        stream = self.wait(job_id)["container"]["logStreamName"]
        return json.loads(until(lambda: self.lines(stream))[0])


def alive(pid):
    """Return whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        # The process may also end between the opening of the file and its reading.
        return False


def until_written(path):
    """Wait for a file of process ids and return them."""
    until(lambda: path.exists() and path.read_text())
    return [int(word) for word in path.read_text().split()]
