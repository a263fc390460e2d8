"""The prerequisites of a knot's own stack, made at the same time: its bucket, its image and its Pars."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from cloudknot.deploy.pars import Pars, let_use, make_pars
from cloudknot.deploy.plan import KnotPlan
from cloudknot.image.publish import publish

T = TypeVar("T")


@dataclass(frozen=True)
class Prerequisites:
    """The Pars that a knot uses, and the address of its image in the registry."""

    pars: Pars
    image_uri: str


def make_prerequisites(plan: KnotPlan) -> Prerequisites:
    """Make the bucket, publish the image and make or adopt the Pars, all at the same time.

    Raises
    ------
    ImageError
        The image could not be built, pushed or installed.
    CannotCreateResourceException
    """
    repository = plan.cloud.repository(plan.repository, plan.options.aws_resource_tags)
    bucket = _begin(lambda: plan.cloud.storage.ensure_bucket(plan.options.aws_resource_tags))
    image_uri = _begin(lambda: publish(plan.cloud, plan.image, repository))
    pars = _begin(lambda: _pars(plan))
    for begun in (bucket, image_uri, pars):
        begun.exception()
    bucket.result()
    return Prerequisites(pars.result(), image_uri.result())


def _pars(plan: KnotPlan) -> Pars:
    if not isinstance(plan.pars, Pars):
        return make_pars(plan.pars)
    let_use(plan.pars, plan.cloud.bucket)
    return plan.pars


def _begin(work: Callable[[], T]) -> Future[T]:
    """Begin to work in a thread of its own.

    The threads of an executor would hold up the end of an interrupted program until their work is done, and
    CloudFormation takes minutes.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="making prerequisites", daemon=True).start()
    return future
