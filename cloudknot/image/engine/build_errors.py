"""The errors for an image that cannot run its program, or cannot be built for its platform. No I/O."""

from __future__ import annotations

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
# The options that write an instruction of the rendered Dockerfile, found by a word of the instruction.
OPTIONS = (("FROM ", "base_image="), ("pip install", "requirements="), ("apt-get", "apt_packages="))


def explain(error: ImageError, image: Image) -> ImageError:
    """Return the error for a failed build, with its cause and fix where the log reveals them."""
    if _needs_emulation(f"{error} {error.log}"):
        text = f"{NO_EMULATION.format(platform=image.platform)}\n{error}"
    elif context.is_python_check(error.instruction):
        text = _wrong_python(error.log or str(error).partition("\n")[0], image)
    else:
        option = next((option for words, option in OPTIONS if words in error.instruction), "dockerfile_lines=")
        cause = f"{option}, or the Dockerfile if you edited it," if error.instruction else "the Dockerfile"
        text = f"{error}\nCorrect {cause} and try again."
    return ImageError(text, instruction=error.instruction, log=error.log)


def python_failed(log: str, image: Image) -> ImageError:
    """Return the error for an image that failed the check of its Python, with that log."""
    no_emulation = NO_EMULATION.format(platform=image.platform)
    return ImageError(no_emulation if _needs_emulation(log) else _wrong_python(log, image))


def wrong_architecture(actual: str, image: Image) -> ImageError:
    """Return the error for an image that was built for the platform ``actual``."""
    base = context.base_of(image.files)
    return ImageError(WRONG_ARCHITECTURE.format(actual=actual, platform=image.platform, base=base))


def _needs_emulation(log: str) -> bool:
    """Return whether a log shows that this processor cannot run the image's programs."""
    return "exec format error" in log


def _wrong_python(log: str, image: Image) -> str:
    version = context.python_found(log)
    last_line = "".join(log.strip().splitlines()[-1:])
    problem = f"it has Python {version}" if version else f"it has no command `python` that works ({last_line})"
    return WRONG_PYTHON.format(problem=problem, python=image.python, base=context.base_of(image.files))
