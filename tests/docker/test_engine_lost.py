"""A build ends with its session, and a lost engine is reported in words. The engine and the builds are real."""

import os
import signal
import subprocess
import sys
import threading
import uuid

import pytest

import cloudknot as ck
from cloudknot.image.docker_image import DockerImage, image_in
from cloudknot.image.engine.builder import DockerBuilder
from cloudknot.image.engine.connection import engine_answers
from tests.helpers.paths import ROOT
from tests.helpers.relay import Relay
from tests.helpers.waiting import LONG, until

BUILD = """
import sys
import time
import cloudknot as ck

image = ck.DockerImage(func=abs, base_image=sys.argv[1], dockerfile_lines=sys.argv[2])
try:
    image.build("never-built")
except KeyboardInterrupt as error:
    last = error  # A notebook keeps the last traceback, and with it the frames of the build.
    print("interrupted", flush=True)
    time.sleep(600)
"""


def endless():
    """Return a line of a Dockerfile that never ends."""
    return f"RUN sleep 3600.{uuid.uuid4().int % 10**12}"


def is_running(engine, line):
    """Return whether a container of the engine runs a line of a Dockerfile."""
    return any(line.removeprefix("RUN ") in container["Command"] for container in engine.containers())


def test_interrupted_build_ends_in_engine(engine, machine):
    line = endless()
    command = [sys.executable, "-c", BUILD, machine.base_image, line]
    client = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: is_running(engine, line), LONG)
        client.send_signal(signal.SIGINT)
        assert client.stdout.readline() == "interrupted\n"
        until(lambda: not is_running(engine, line), LONG)
    finally:
        client.kill()
        client.wait(LONG)
        client.stdout.close()


def test_stop_ends_build_of_another_thread(engine, machine):
    line, errors = endless(), []
    builder = DockerBuilder()
    image = image_in(DockerImage(func=abs, base_image=machine.base_image, dockerfile_lines=line))

    def build():
        with pytest.raises(ck.ImageError) as caught:
            builder.build(image, "never-built:1")
        errors.append(str(caught.value))

    thread = threading.Thread(target=build)
    thread.start()
    until(lambda: is_running(engine, line), LONG)
    builder.stop()
    thread.join(LONG)
    assert not thread.is_alive()
    assert "the connection to the Docker engine broke" in errors[0]
    until(lambda: not is_running(engine, line), LONG)


def test_stopped_builder_makes_no_new_connection_until_next_use(engine, machine):
    image = image_in(DockerImage(func=abs, base_image=machine.base_image, dockerfile_lines=endless()))
    builder = DockerBuilder()
    builder.stop()
    with pytest.raises(ck.ImageError, match="it was stopped here"):
        builder.build(image, "never-built:1")
    with builder, pytest.raises(ck.ImageError, match="no-such-image"):
        builder.tag("no-such-image:1", "never-built:1")


def test_engine_lost_during_build_is_reported(engine, machine, monkeypatch, tmp_path):
    line = endless()
    image = image_in(DockerImage(func=abs, base_image=machine.base_image, dockerfile_lines=line))
    with Relay(os.environ["DOCKER_HOST"].removeprefix("unix://"), tmp_path / "socket") as relay:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{relay.address}")
        assert engine_answers()
        cut = threading.Thread(target=lambda: (until(lambda: is_running(engine, line), LONG), relay.cut()))
        cut.start()
        with pytest.raises(ck.ImageError, match=r"connection to the Docker engine broke.*Check the Docker engine"):
            DockerBuilder().build(image, "never-built:1")
        cut.join(LONG)


def test_refused_line_is_shown_with_its_option(engine, machine):
    image = image_in(DockerImage(func=abs, base_image=machine.base_image, dockerfile_lines="RUNN make"))
    with pytest.raises(
        ck.ImageError, match=r"unknown instruction: RUNN\.\nThe line .*\n    RUNN make\nCorrect dockerfile"
    ):
        DockerBuilder(engine).build(image, "never-built:1")


def test_misspelt_package_and_base_image_are_named_with_their_options(engine, machine):
    image = image_in(DockerImage(func=abs, base_image=machine.base_image, apt_packages="no-such-package"))
    with pytest.raises(ck.ImageError, match=r"has no package no-such-package\.(.|\n)*\nCorrect apt_packages= and try"):
        DockerBuilder(engine).build(image, "never-built:1")
    image = image_in(DockerImage(func=abs, base_image="127.0.0.1:1/pyton:3.11", apt_packages="hello"))
    with pytest.raises(
        ck.ImageError, match=r"base image 127\.0\.0\.1:1/pyton:3\.11 cannot be reached(.|\n)*base_image="
    ):
        DockerBuilder(engine).build(image, "never-built:1")
