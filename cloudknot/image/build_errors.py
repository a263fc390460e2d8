"""Why an image that was built, or could not be, would not run its program: in words for people."""

from __future__ import annotations

from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError
from cloudknot.image import context

OTHER_PYTHON = (
    "The image cannot run the program: {found}, but the program was pickled by Python {python} and needs it. "
    "Its base is {base}. Leave out base_image= or name one that has Python {python}, such as 'python:{python}-slim'."
)
OTHER_ARCHITECTURE = (
    "The image is for {found}, but the instance types need {platform}, and would not run it. Its base is {base}: name "
    "one that exists for {platform} with base_image=, or choose instance types of its architecture."
)
FOREIGN = (
    "This engine cannot run programs for {platform}, which the instance types need: have it emulate them (on Debian "
    "`apt-get install qemu-user-static`; Docker Desktop does so itself), or choose instance types of its architecture."
)


def explained(error: ImageError, image: Image) -> ImageError:
    """The error of a failed build, with what is behind it where the log tells."""
    if _is_foreign(f"{error} {error.log}"):
        text = f"{FOREIGN.format(platform=image.platform)}\n{error}"
    elif context.is_python_check(error.instruction):
        text = _other_python(error.log or str(error).partition("\n")[0], image)
    else:
        text = str(error)
    return ImageError(text, instruction=error.instruction, log=error.log)


def python_failed(log: str, image: Image) -> ImageError:
    """The error of an image in which the check of Python ended badly with that log."""
    return ImageError(FOREIGN.format(platform=image.platform) if _is_foreign(log) else _other_python(log, image))


def other_architecture(found: str, image: Image) -> ImageError:
    """The error of an image for the platform ``found``."""
    base = context.base_of(image.files)
    return ImageError(OTHER_ARCHITECTURE.format(found=found, platform=image.platform, base=base))


def _is_foreign(log: str) -> bool:
    """Whether a log says that the processor does not run the image's programs."""
    return "exec format error" in log


def _other_python(log: str, image: Image) -> str:
    version = context.python_found(log)
    said = "".join(log.strip().splitlines()[-1:])
    found = f"it has Python {version}" if version else f"it has no command `python` that works ({said})"
    return OTHER_PYTHON.format(found=found, python=image.python, base=context.base_of(image.files))
