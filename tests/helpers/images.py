"""Images of programs, for tests of their content."""

from __future__ import annotations

from typing import Any

from cloudknot.aws.images.image_store import Image
from cloudknot.image.render import image_of, render
from cloudknot.program.program import Program


def render_image(program: Program, *, platform: str = "linux/amd64", **choices: Any) -> Image:
    """Return the image of a program, with choices that `render` takes."""
    return image_of(render(program, **choices), platform)
