"""A program renders to the same build context each time. Tag and environment digest change with its files."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import pytest

from cloudknot.aws.images.image_store import Image
from cloudknot.errors import CloudknotInputError
from cloudknot.image import context
from cloudknot.image.render import render, worker_files
from cloudknot.program.packages.lock import LocalWheel
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.program import Program, make_program
from cloudknot.worker.wire.seal import FORMAT
from tests.helpers import functions
from tests.helpers.functions import square
from tests.helpers.images import described, lock_of_lines, render_image

OWN = (f"boto3=={version('boto3')}", f"cloudpickle=={version('cloudpickle')}")

TARGET = InstallTarget("linux/amd64", "3.11")


@pytest.fixture
def program() -> Program:
    return make_program(square, requirements=["six==1.16.0"])


def test_context_contains_program_modules_and_requirements(program: Program) -> None:
    image = render_image(replace(program, modules={"pkg/util.py": b"x = 1\n"}))
    assert list(image.files) == sorted(image.files)
    assert image.files["program/function.pkl"] == program.pickled
    assert image.files["program/function.py"].decode() == program.source
    assert image.files["program/modules/pkg/util.py"] == b"x = 1\n"
    assert image.files["requirements.txt"].decode().splitlines() == [*OWN, "six==1.16.0"]
    assert image.requirements == (*OWN, "six==1.16.0")
    assert json.loads(image.files["program/program.json"]) == {
        "function": "square",
        "python": program.python,
        "cloudpickle": version("cloudpickle"),
        "filename": functions.__file__,
        "firstlineno": program.firstlineno,
        "digest": program.digest,
        "script": "",
        "paths": [],
        "names": {"__main__": [], functions.__name__: ["square"]},
        "needs_engine": "",
        "username": "",
        "local_packages": [],
        "format": FORMAT,
    }


def test_worker_is_copied_as_separate_package() -> None:
    files = worker_files()
    assert {"cloudknot_worker/__init__.py", "cloudknot_worker/wire/keys.py"} <= set(files)
    assert not [path for path in files if "__pycache__" in path or not path.endswith(".py")]
    for source in files.values():
        imported = [
            node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module
        ]
        assert not [name for name in imported if name.startswith("cloudknot")]


def test_rendering_is_deterministic(program: Program) -> None:
    assert render_image(program) == render_image(program)


def test_tag_is_same_for_pickle_of_another_session(program: Program) -> None:
    other_session = replace(program, pickled=b"other bytes", filename="/tmp/ipykernel_99/1.py", firstlineno=77)
    assert render_image(other_session).tag == render_image(program).tag


def test_tag_names_format_of_worker(program: Program) -> None:
    image = render_image(program)
    info = json.loads(image.files[context.PROGRAM_INFO])

    def is_outdated(**changes: int) -> tuple[bool, bool]:
        data = json.dumps({**{key: info[key] for key in info if key != "format"}, **changes}).encode()
        files = {**image.files, context.PROGRAM_INFO: data}
        uri = f"registry:5000/cloudknot:{context.content_tag(files, 'linux/amd64', image.lock)}"
        return context.is_outdated(uri), context.is_outdated_context(files)

    assert is_outdated(format=FORMAT) == is_outdated(format=FORMAT + 10) == (False, False)
    assert is_outdated() == is_outdated(format=FORMAT - 1) == (True, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: render_image(replace(p, digest="0" * 64)),
        lambda p: render_image(replace(p, modules={"helper.py": b"1"})),
        lambda p: render_image(replace(p, source="# another comment")),
        lambda p: render_image(replace(p, requirements=("six==1.17.0",))),
        lambda p: render_image(p, base_image="debian:12"),
        lambda p: render_image(p, username="jo"),
        lambda p: render_image(p, platform="linux/arm64"),
        lambda p: render_image(p, github_installs=["https://github.com/o/n"]),
    ],
    ids=["digest", "modules", "source", "requirements", "base_image", "username", "platform", "github_installs"],
)
def test_tag_depends_on_program_and_options(program: Program, change: Callable[[Program], Image]) -> None:
    assert change(program).tag != render_image(program).tag


def test_edited_function_keeps_environment(program: Program) -> None:
    image, edited = render_image(program), render_image(replace(program, digest="0" * 64, pickled=b"", source="new"))
    assert edited.environment_digest == image.environment_digest
    assert edited.environment_tag == image.environment_tag == f"env-{image.environment_digest[:32]}"
    before, after = (context.environment_of(rendered.files) for rendered in (image, edited))
    assert before == after
    assert before is not None
    assert set(before) == {"Dockerfile", "pylock.toml", "requirements.lock", "requirements.txt"}


@pytest.mark.parametrize(
    "options",
    [
        {"base_image": "debian:12"},
        {"username": "jo"},
        {"platform": "linux/arm64"},
        {"github_installs": ["https://github.com/o/n"]},
        {"apt_packages": ["imagej"]},
        {"dockerfile_lines": ["RUN true"]},
    ],
)
def test_environment_depends_on_image_options(program: Program, options: dict[str, Any]) -> None:
    assert render_image(program, **options).environment_digest != render_image(program).environment_digest


def test_users_boto3_requirement_replaces_cloudknots_requirement(program: Program) -> None:
    image = render_image(replace(program, requirements=("Boto3>=1.30", "six==1.16.0")))
    assert image.requirements == ("Boto3>=1.30", OWN[1], "six==1.16.0")


def test_github_installs_replace_pin_of_same_repository(program: Program) -> None:
    pinned = replace(program, requirements=("thing @ git+https://github.com/O/Thing.git@abc", "six==1.16.0"))
    image = render_image(pinned, github_installs=["https://github.com/o/thing@v2"])
    assert image.requirements == (*OWN, "six==1.16.0", "git+https://github.com/o/thing@v2")
    assert " git" not in image.files["Dockerfile"].decode()


def test_dockerfile_sets_user_before_program_stage(program: Program) -> None:
    text = render_image(program, username="jo").files["Dockerfile"].decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[:4] == [
        "ARG SYSTEM=system",
        "ARG ENVIRONMENT=environment",
        f"FROM python:{program.python}-slim AS system",
        "USER root",
    ]
    assert lines.count("WORKDIR /opt/cloudknot") == 2
    assert lines.index("USER jo") < lines.index("FROM ${ENVIRONMENT}") < lines.index("COPY program ./program/")
    assert lines.index("FROM ${ENVIRONMENT}") < lines.index("ENTRYPOINT []")


def test_apt_packages_and_lines_precede_requirements(program: Program) -> None:
    image = render_image(program, apt_packages=["xvfb", "imagej"], dockerfile_lines=["ENV A=1", "RUN make \\\n  all"])
    text = image.files["Dockerfile"].decode()
    places = [
        text.index(part)
        for part in ("recommends imagej xvfb", "ENV A=1\nRUN make \\\n  all\n", "FROM ${SYSTEM}", "-m pip install")
    ]
    assert places == sorted(places)
    assert image.needs_engine == "apt_packages and dockerfile_lines"
    assert render_image(program).needs_engine == ""


def test_context_splits_into_environment_and_program(program: Program) -> None:
    files = render_image(program).files
    environment, upper = context.environment_of(files), context.program_of(files)
    assert environment is not None
    assert b"${ENVIRONMENT}" not in environment["Dockerfile"]
    assert upper["Dockerfile"].startswith(b"ARG ENVIRONMENT\nFROM ${ENVIRONMENT}\n")
    assert b"COPY cloudknot_worker" in upper["Dockerfile"]
    assert {**files, "Dockerfile": b""} == {**upper, "Dockerfile": b""}


def test_system_is_first_stage_without_packages_and_program(program: Program) -> None:
    image = render_image(program, apt_packages=["hello"])
    system = context.system_of(image.files)
    assert system is not None
    assert set(system) == {"Dockerfile", "requirements.txt"}
    text = system["Dockerfile"].decode()
    assert "install --yes --no-install-recommends hello" in text
    assert "${SYSTEM}" not in text
    assert text.count("FROM ") == 1
    other = render_image(replace(program, requirements=("six==1.17.0",), digest="0" * 64), apt_packages=["hello"])
    more = render_image(program, apt_packages=["hello", "xvfb"])
    tags = [context.system_tag(files.files, "linux/amd64") for files in (image, other, more)]
    assert tags[0] == tags[1] != tags[2]
    assert tags[0] != context.system_tag(image.files, "linux/arm64")


def test_system_of_returns_none_for_dockerfile_with_other_stages(program: Program) -> None:
    files = render_image(program).files
    assert context.system_of({**files, "Dockerfile": b"FROM python:3.11\nCOPY . .\n"}) is None
    two_stages = b"FROM python:3.11 AS environment\nFROM ${ENVIRONMENT}\nCOPY program ./program/\n"
    assert context.system_of({**files, "Dockerfile": two_stages}) is None


WHEEL = LocalWheel("mylab", "0.1", "mylab-0.1-py3-none-any.whl", b"content")


def test_locked_files_name_each_package_with_its_hash() -> None:
    lock = lock_of_lines(["six==1.16.0", "private==2"], TARGET)
    private, six = lock.packages
    files = context.locked_files(lock, [WHEEL], {private.filename: b"downloaded"})
    assert files["requirements.lock"].decode().splitlines() == [
        f"/opt/cloudknot/env/{private.filename} --hash=sha256:{private.sha256}",
        f"six==1.16.0 --hash=sha256:{six.sha256}",
        f"/opt/cloudknot/env/{WHEEL.filename} --hash=sha256:{WHEEL.sha256}",
    ]
    assert files[f"wheels/{private.filename}"] == b"downloaded"
    assert files[f"wheels/{WHEEL.filename}"] == b"content"
    assert files["pylock.toml"] == lock.text().encode()


def test_files_of_earlier_lock_are_replaced(program: Program) -> None:
    files = {**render(program), "wheels/old-1-py3-none-any.whl": b"old", "requirements.lock": b"old==1"}
    image = described(files)
    assert image.files == render_image(program).files


@pytest.mark.parametrize(
    "text",
    [
        "FROM python:3.11\nCOPY . .\n",
        "ARG ENVIRONMENT\nFROM ${ENVIRONMENT}\nCOPY . .\n",
        "FROM python:3.11 AS environment\nFROM ${ENVIRONMENT}\nFROM scratch\n",
        "FROM python:3.11 AS environment\nFROM ${ENVIRONMENT}\nCOPY --from=environment /a /b\n",
    ],
)
def test_environment_of_returns_none_for_dockerfile_with_other_stages(program: Program, text: str) -> None:
    assert context.environment_of({**render_image(program).files, "Dockerfile": text.encode()}) is None


def test_added_files_belong_to_environment(program: Program) -> None:
    files = render_image(program).files
    added = described({**files, "tools/run.sh": b"#!/bin/sh"})
    assert added.environment_digest != described(files).environment_digest
    assert "tools/run.sh" in (context.environment_of(added.files) or {})
    executable = described(added.files, executables=["tools/run.sh"])
    assert executable.environment_digest != added.environment_digest
    assert executable.tag != added.tag


def test_function_name_cannot_inject_dockerfile_lines(program: Program) -> None:
    text = render_image(replace(program, name='x"\nRUN evil $HOME')).files["Dockerfile"].decode()
    assert not [line for line in text.splitlines() if line.startswith("RUN evil")]
    assert "$HOME" not in text


def test_password_of_repository_is_in_no_file(program: Program) -> None:
    addresses = ["https://s3cret@github.com/o/n", "https://me:s3cret@host/o/m@v1"]
    line = "lab @ https://me:s3cret@host/lab-1.whl"
    image = render_image(replace(program, requirements=(line,)), github_installs=addresses)
    assert not [path for path, content in image.files.items() if b"s3cret" in content]
    assert "s3cret" not in repr(image)
    assert image.requirements[-2:] == ("git+https://github.com/o/n", "git+https://host/o/m@v1")


def test_ssh_repository_becomes_pip_requirement(program: Program) -> None:
    image = render_image(program, github_installs=["git@github.com:o/n.git@v1"])
    assert image.requirements[-1] == "git+ssh://git@github.com/o/n.git@v1"


@pytest.mark.parametrize(
    "options",
    [
        {"base_image": "a\nRUN b"},
        {"username": "Jo Doe"},
        {"platform": "windows"},
        {"github_installs": ["not an address"]},
        {"github_installs": ["https://h/x\nevil"]},
    ],
)
def test_invalid_options_are_refused(program: Program, options: dict[str, Any]) -> None:
    with pytest.raises(CloudknotInputError):
        render_image(program, **options)


def test_empty_base_image_is_default(program: Program) -> None:
    assert context.base_of(render_image(program, base_image="").files) == f"python:{program.python}-slim"
