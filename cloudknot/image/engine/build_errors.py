"""The errors for an image that cannot run its program, or cannot be built. No I/O.

Engine and CodeBuild report a failed build in the same words, so both use `explain`. Only the fixes differ where they
concern the machine that builds.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError
from cloudknot.image import context

WRONG_PYTHON = (
    "The image cannot run the program: {problem}. The program was pickled by Python {python}, and only Python "
    "{python} can load it. Its base image is {base}. Remove base_image=, or name an image with Python {python}, such "
    "as base_image='python:{python}-slim'."
)
WRONG_ARCHITECTURE = (
    "The image is for {actual}, but the instance types need {platform}. Its base image is {base}. Pass as "
    "base_image= an image that exists for {platform}, or choose instance types for {actual}."
)
NO_EMULATION = (
    "This Docker engine cannot run programs for {platform}, which the instance types need. Install an emulator (on "
    "Debian: `apt-get install qemu-user-static`; Docker Desktop includes one), or choose instance types with the "
    "architecture of this machine."
)
AGAIN = "Correct {option} and try again."
_EDITED = "the Dockerfile that you edited"
# Words of the rendered instructions, with the option that writes each. All other instructions are a person's own.
OPTIONS = (
    (re.compile(r"FROM "), "base_image="),
    (re.compile(r"RUN .*--requirement env/requirements\.lock", re.DOTALL), "requirements="),
    (re.compile(r"RUN apt-get update && .*--no-install-recommends", re.DOTALL), "apt_packages="),
)
_NO_NETWORK = (
    r"no such host|i/o timeout|connection refused|network is unreachable|Client\.Timeout|TLS handshake timeout|"
    r"proxyconnect|Temporary failure (in name resolution|resolving)|Could not resolve|Failed to establish a new"
)


class _Cause(NamedTuple):
    """A known cause of a failed build: words of the instruction, words of the message or log, problem and fix.

    ``on_codebuild`` is the fix when AWS CodeBuild built the image, if it differs.
    """

    instruction: str
    text: str
    problem: str
    fix: str
    on_codebuild: str = ""


CAUSES = (
    _Cause(
        "",
        r"exec format error",
        "A step runs a program for another architecture than {platform}, which the instance types need.",
        "Correct {option}, or pass as base_image= an image that exists for {platform}.",
    ),
    _Cause(
        "",
        r"no space left on device",
        "The disk of the machine that builds the image is full.",
        "Free space with `docker system prune` and try again.",
        "AWS CodeBuild gives a build a disk of fixed size. Make the image smaller with another base image or fewer "
        "packages, or build it with a Docker engine on this machine.",
    ),
    _Cause(
        "FROM ",
        r"invalid reference format",
        "{base!r} is not the name of an image.",
        "Correct {option}, for example base_image='python:{python}-slim'.",
    ),
    _Cause(
        "FROM ",
        r"no matching manifest for|does not match the specified platform|wanted linux/\S+, actual",
        "The base image {base} is not for {platform}, which the instance types need.",
        "Pass as base_image= an image that exists for {platform}, or choose other instance types.",
    ),
    _Cause(
        "FROM ",
        _NO_NETWORK,
        "The registry of the base image {base} cannot be reached. The network may be down, or the name misspelt.",
        "Check both with `docker pull {base}`, correct {option} if it is misspelt, and try again.",
        "AWS CodeBuild reaches only registries on the Internet. Correct {option} if it is misspelt, or build the "
        "image with a Docker engine on this machine.",
    ),
    _Cause(
        "FROM ",
        r"manifest unknown|not found|does not exist|denied|unauthorized",
        "The base image {base} does not exist in its registry, or its registry needs a login.",
        "Correct {option}, or run `docker login`, and try again.",
        "Correct {option} and try again. AWS CodeBuild logs in only to the registry of your AWS account. Push a "
        "private base image to the repository of your knots there, or build the image with a Docker engine on this "
        "machine.",
    ),
    _Cause(
        "",
        r"Unable to locate package (?P<found>\S+)|Package '?(?P<other>[^\s']+)'? has no installation candidate",
        "The base image's package source has no package {found}.",
        AGAIN,
    ),
    _Cause(
        "",
        r"\b(?P<found>apt-get|apt|apk|dnf|yum): (command )?not found",
        "The base image {base} has no {found}, which {option} needs.",
        "apt_packages= is for Debian and Ubuntu. On Alpine, pass dockerfile_lines=['RUN apk add PACKAGE'] in its "
        "place. Or choose another base image, such as base_image='python:{python}-slim'.",
    ),
    _Cause(
        "",
        _NO_NETWORK,
        "A step of the build has no network.",
        "Check the network and the proxy of the Docker engine, and try again.",
        "AWS CodeBuild reaches only hosts on the Internet. Correct {option} if it names another host, or try again.",
    ),
    _Cause(
        "",
        r"COPY failed: file not found|ADD failed: file not found|failed to compute cache key",
        "A step copies a file that the build context does not have.",
        "Put the file into the directory of the image (DockerImage(..., dir_name=...)), or correct {option}.",
    ),
    _Cause(
        "",
        r"non-zero code: 137\b",
        "The machine stopped a step of the build, which is usually for lack of memory.",
        "Give the Docker engine more memory, or correct {option}, and try again.",
        "AWS CodeBuild gives a build a fixed amount of memory. Correct {option} so that the step needs less, or build "
        "the image with a Docker engine on this machine.",
    ),
    _Cause(
        "requirements.lock",
        r"command '?\S*(gcc|cc|g\+\+|cmake|rustc|cargo|gfortran)'? failed|Unknown compiler|Rust compiler",
        "A package has no wheel for {platform}, and the image has no compiler to build it.",
        "Add a compiler with apt_packages=['build-essential'], on Alpine with "
        "dockerfile_lines=['RUN apk add build-base'], or require a version that has a wheel.",
    ),
)


def explain(error: ImageError, image: Image, *, on_codebuild: bool = False) -> ImageError:
    """Return the error for a failed build, with its cause and fix where message or log reveal them.

    With ``on_codebuild``, AWS CodeBuild built the image and not a Docker engine of the user.
    """
    text, option = f"{error} {error.log}", _option(error.instruction, image)
    # CodeBuild builds on a machine with the architecture of the image.
    if _needs_emulation(text) and not on_codebuild:
        explained = f"{NO_EMULATION.format(platform=image.platform)}\n{error}"
    elif context.is_python_check(error.instruction):
        explained = _wrong_python(error.log or str(error).partition("\n")[0], image)
    elif found := _known(error.instruction, text):
        cause, words = found
        base = context.base_of({context.DOCKERFILE: error.instruction.encode()})
        # Stages after the first one begin with another stage, whose name says nothing.
        base = context.base_of(image.files) if not base or "$" in base else base
        values = {"base": base, "option": option, "found": words}
        values |= {"python": image.python, "platform": image.platform}
        fix = (on_codebuild and cause.on_codebuild) or cause.fix
        explained = f"{cause.problem.format(**values)}\n{error}\n{fix.format(**values)}"
    else:
        explained = f"{error}\n{AGAIN.format(option=option)}"
    return ImageError(explained, instruction=error.instruction, log=error.log)


def refused(title: str, message: str, dockerfile: str, image: Image) -> ImageError:
    """Return the error for a Dockerfile that the engine does not accept, with the line at fault if it names one."""
    number = re.search(r"line (\d+)", message)
    lines = dockerfile.splitlines()
    at_fault = lines[int(number[1]) - 1].strip() if number and int(number[1]) <= len(lines) else ""
    line = f"\nThe line of the Dockerfile:\n    {at_fault}" if at_fault else ""
    fix = AGAIN.format(option=_option(at_fault, image))
    return ImageError(f"{title} failed: {message.rstrip('.')}.{line}\n{fix}", instruction=at_fault)


def python_failed(log: str, image: Image, *, on_codebuild: bool = False) -> ImageError:
    """Return the error for an image that failed the check of its Python, with that log."""
    if _needs_emulation(log) and not on_codebuild:
        return ImageError(NO_EMULATION.format(platform=image.platform))
    return ImageError(_wrong_python(log, image))


def wrong_architecture(actual: str, image: Image) -> ImageError:
    """Return the error for an image that was built for the platform ``actual``."""
    base = context.base_of(image.files)
    return ImageError(WRONG_ARCHITECTURE.format(actual=actual, platform=image.platform, base=base))


def _option(instruction: str, image: Image) -> str:
    """Return the option that wrote an instruction."""
    if image.needs_engine == context.EDITED:
        return _EDITED
    return next((option for words, option in OPTIONS if words.match(instruction)), "dockerfile_lines=")


def _known(instruction: str, text: str) -> tuple[_Cause, str] | None:
    """Return the known cause of a failure, and the name that its message contains."""
    for cause in CAUSES:
        match = re.search(cause.text, text, re.IGNORECASE)
        if match and cause.instruction in instruction:
            return cause, next((name for name in match.groupdict().values() if name), "")
    return None


def _needs_emulation(log: str) -> bool:
    """Return whether a log shows that this processor cannot run the image's programs."""
    return "exec format error" in log.lower()


def wrong_python(version: str, image: Image) -> ImageError:
    """Return the error for a base image with another Python than the program's, or, if empty, without Python."""
    problem = f"it has Python {version}" if version else "it has no command `python`"
    return ImageError(_wrong_python_text(problem, image))


def _wrong_python(log: str, image: Image) -> str:
    version = context.python_found(log)
    last_line = "".join(log.strip().splitlines()[-1:])
    problem = f"it has Python {version}" if version else f"it has no command `python` that works ({last_line})"
    return _wrong_python_text(problem, image)


def _wrong_python_text(problem: str, image: Image) -> str:
    return WRONG_PYTHON.format(problem=problem, python=image.python, base=context.base_of(image.files))
