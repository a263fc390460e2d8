"""Building, pushing and pulling on a real engine and a real registry with a login."""

import contextlib
import io
import json
import logging
import uuid
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

import cloudknot as ck
from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.image.builder import DockerBuilder
from cloudknot.image.docker_image import DockerImage, image_in

INSTALL = "RUN apt-get update && apt-get install --yes --no-install-recommends"


def build_and_name(x):
    return x


@pytest.fixture(scope="session")
def base(machine):
    return machine.base_image


@pytest.fixture
def repository(cloud):
    return cloud.repository("builder-tests")


class Watched:
    """An engine's client that also keeps what it was asked."""

    def __init__(self, engine):
        self._engine, self.asked = engine, []

    def __getattr__(self, name):
        method = getattr(self._engine, name)

        def call(*arguments, **options):
            if name in ("build", "push", "pull"):
                tag = options.get("tag") or arguments[-1]
                self.asked.append((name, tag.rpartition(":")[2]))
            return method(*arguments, **options)

        return call


def drop(engine, repository, *tags):
    """Make an engine that has none of these images."""
    for tag in tags:
        with contextlib.suppress(ImageNotFound):
            engine.remove_image(f"{repository.create()}:{tag}", force=True)


def test_two_layers_reused_pulled_and_pushed_again(engine, repository, base):
    # The registry keeps what earlier runs pushed: this environment is new.
    choices = {"base_image": base, "requirements": ["six==1.16.0"], "dockerfile_lines": f"ENV NEW={uuid.uuid4()}"}
    image = image_in(DockerImage(func=build_and_name, **choices))
    edited = image_in(DockerImage(func=lambda x: x + 2, **choices))
    uri, env = repository.create(), image.environment_tag
    assert edited.environment_tag == env
    first = Watched(engine)
    DockerBuilder(first).publish(image, repository, f"{uri}:{image.tag}")
    assert first.asked == [("build", env), ("push", env), ("build", image.tag), ("push", image.tag)]
    assert repository.has_tag(image.tag)
    assert repository.has_tag(env)

    second = Watched(engine)
    DockerBuilder(second).publish(edited, repository, f"{uri}:{edited.tag}")
    assert second.asked == [("build", edited.tag), ("push", edited.tag)]

    # Another machine has neither: the environment is pulled.
    drop(engine, repository, image.tag, edited.tag, env)
    repository.delete_images([digest for digest, tags in repository.images().items() if edited.tag in tags])
    assert not repository.has_tag(edited.tag)
    third = Watched(engine)
    DockerBuilder(third).publish(edited, repository, f"{uri}:{edited.tag}")
    assert third.asked == [("pull", env), ("build", edited.tag), ("push", edited.tag)]
    layers = [engine.inspect_image(f"{uri}:{tag}")["RootFS"]["Layers"] for tag in (env, edited.tag)]
    assert layers[1][: len(layers[0])] == layers[0]
    assert len(layers[1]) == len(layers[0]) + 2


def test_a_person_can_build_the_context(engine, base, tmp_path):
    """`docker build .` in the directory gives both stages."""
    image = DockerImage(func=build_and_name, base_image=base, dir_name=tmp_path / "d", requirements=[])
    events = list(engine.build(path=str(image.build_path), tag="cloudknot-by-hand:1", rm=True, decode=True))
    assert not [event for event in events if "error" in event]
    container = engine.create_container("cloudknot-by-hand:1", ["id", "-un"])["Id"]
    engine.start(container)
    engine.wait(container, timeout=60)
    assert engine.logs(container) == b"cloudknot-user\n"
    engine.remove_container(container)


def test_a_failed_step_is_named(engine, base):
    image = image_in(DockerImage(func=build_and_name, base_image=base, dockerfile_lines=["RUN echo before; false"]))
    with pytest.raises(ck.ImageError, match="RUN echo before; false") as caught:
        DockerBuilder(engine).build(image, "cloudknot-failing:1")
    assert caught.value.log.splitlines()[-1] == "before"


def test_a_requirement_that_does_not_exist_is_told_by_pip(engine, base):
    image = image_in(DockerImage(func=build_and_name, base_image=base, requirements=["six==99.0"]))
    with pytest.raises(ck.ImageError, match=r"No matching distribution found for six==99\.0"):
        DockerBuilder(engine).build(image, "cloudknot-failing:1")


@pytest.fixture(scope="session")
def other_python(engine, base):
    """A base image whose `python` is PyPy, of another minor version, and one that has none."""
    for name, line in (
        ("old", f"{INSTALL} pypy3 && ln -sf pypy3 $(command -v python)"),
        ("none", "RUN rm $(command -v python)"),
    ):
        text = f"FROM {base}\n{line}\n".encode()
        for event in engine.build(fileobj=io.BytesIO(text), tag=f"cloudknot-{name}:1", rm=True, decode=True):
            assert "error" not in event, event


@pytest.mark.usefixtures("other_python")
@pytest.mark.parametrize(
    ("name", "words"), [("old", r"it has Python 3\.\d+\. The program was pickled by"), ("none", "no command `python`")]
)
def test_another_python_or_none_is_refused_before_the_push(engine, repository, name, words):
    image = image_in(DockerImage(func=build_and_name, base_image=f"cloudknot-{name}:1"))
    watched = Watched(engine)
    with pytest.raises(ck.ImageError, match=words):
        DockerBuilder(watched).publish(image, repository, f"{repository.create()}:{image.tag}")
    assert {request[0] for request in watched.asked} == {"build"}


@pytest.mark.usefixtures("other_python")
@pytest.mark.parametrize(
    "lines", ["FROM cloudknot-old:1 AS environment\n{}FROM ${{ENVIRONMENT}}\n{}", "FROM cloudknot-old:1\n{}{}"]
)
def test_what_was_refused_once_is_refused_again(engine, repository, tmp_path, lines):
    text = lines.format(f"ENV NEW={uuid.uuid4()}\n", "COPY program ./program/\n")
    (tmp_path / "Dockerfile").write_text(f"ARG ENVIRONMENT=environment\n{text}")
    image = image_in(DockerImage(func=build_and_name, dir_name=tmp_path))
    watched = Watched(engine)
    for _ in range(2):
        with pytest.raises(ck.ImageError, match=r"it has Python 3\.\d+\. The program was pickled by"):
            DockerBuilder(watched).publish(image, repository, f"{repository.create()}:{image.tag}")
    assert {request[0] for request in watched.asked} == {"build"}


@pytest.mark.usefixtures("other_python")
@pytest.mark.parametrize(
    ("name", "words"), [("old", r"it has Python 3\.\d+\. The program was pickled by"), ("none", "no command `python`")]
)
def test_a_dockerfile_of_ones_own_is_checked_too(engine, tmp_path, name, words):
    (tmp_path / "Dockerfile").write_text(f"FROM cloudknot-{name}:1\nCOPY . /opt/cloudknot\n")
    image = image_in(DockerImage(func=build_and_name, dir_name=tmp_path))
    with pytest.raises(ck.ImageError, match=words):
        DockerBuilder(engine).build(image, "cloudknot-edited:1")


def test_a_wrong_password_is_refused_and_the_right_one_is_left_nowhere(engine, machine, repository, base, caplog):
    image = image_in(DockerImage(func=build_and_name, base_image=base, requirements=["six==1.16.0"]))
    uri = f"{repository.create()}:{image.tag}"
    with caplog.at_level(logging.DEBUG):
        DockerBuilder(engine).build(image, uri)
        with pytest.raises(ck.ImageError, match="Pushing"):
            DockerBuilder(engine).push(uri, RegistryLogin(machine.registry, "cloudknot", "wrong"))
        DockerBuilder(engine).push(uri, repository.login())
    assert machine.password not in caplog.text
    config = Path.home() / ".docker" / "config.json"
    assert not config.exists() or machine.password not in config.read_text()
    assert machine.password not in json.dumps(engine.inspect_image(uri))


def test_the_repository_is_made_on_first_use_as_it_should_be(cloud):
    repository = cloud.repository("made/on-first-use", {"Project": "pi"})
    uri = repository.create()
    assert uri == repository.create()
    assert repository.describe()["imageScanningConfiguration"] == {"scanOnPush": True}
    tags = cloud.call("ecr", "list_tags_for_resource", resourceArn=repository.arn)["tags"]
    assert {"Key": "Project", "Value": "pi"} in tags
    policy = cloud.call("ecr", "get_lifecycle_policy", repositoryName=repository.name)["lifecyclePolicyText"]
    (rule,) = json.loads(policy)["rules"]
    assert rule["selection"]["tagStatus"] == "untagged"
    assert rule["action"] == {"type": "expire"}
    repository.clobber()
