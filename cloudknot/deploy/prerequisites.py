"""Create the bucket, the image and the Pars of a knot, all at the same time and before the knot's own stack."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from cloudknot.aws.sdk import interrupts
from cloudknot.deploy.pars import Pars, ParsPlan, make_pars
from cloudknot.deploy.plan import KnotPlan
from cloudknot.image.publish import publish

T = TypeVar("T")


@dataclass(frozen=True)
class Prerequisites:
    """The Pars of a knot, and the address of its image in the registry."""

    pars: Pars
    image_uri: str


def make_prerequisites(plan: KnotPlan) -> Prerequisites:
    """Create the bucket, publish the image and create or adopt the Pars, all at the same time.

    Raises
    ------
    ImageError
        The image could not be built, pushed or installed.
    CannotCreateResourceException
        The Pars could not be created.
    """
    repository = plan.cloud.repository(plan.repository, plan.options.aws_resource_tags)
    bucket = _start(lambda: plan.cloud.storage.ensure_bucket(plan.options.aws_resource_tags))
    stop = threading.Event()
    image_uri = _start(lambda: publish(plan.cloud, plan.image, repository, plan.builder, stop))
    pars = _start(lambda: make_pars(plan.pars) if isinstance(plan.pars, ParsPlan) else plan.pars)
    # Wait for all three before the first error is raised. Otherwise the other threads would still create resources
    # after the caller has seen the error.
    try:
        for future in (bucket, image_uri, pars):
            interrupts.wait_for_first_error([future])
    finally:
        # After Ctrl-C, the build must not go on, and cost money, until its time limit. Nor may a notebook send more.
        stop.set()
        if plan.builder is not None:
            plan.builder.stop()
    bucket.result()
    return Prerequisites(pars.result(), image_uri.result())


def _start(work: Callable[[], T]) -> Future[T]:
    """Start work in a new thread, and return its future."""
    # No ThreadPoolExecutor: an interrupted program would wait for its threads before it exits, and CloudFormation
    # takes minutes. A daemon thread ends with the program.
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="making prerequisites", daemon=True).start()
    return future
