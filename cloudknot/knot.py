"""Knot: the only orchestrator, and the only new object a person has to learn.

It runs the stages in turn and keeps what they made. It knows no AWS words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cloudknot.aws import Cloud
from cloudknot.clouds import choose_cloud
from cloudknot.errors import CloudknotInputError, ResourceClobberedException
from cloudknot.futures import MapFuture
from cloudknot.job import BatchJob, find_jobs
from cloudknot.options import KnotOptions, MapOptions
from cloudknot.pars import Pars
from cloudknot.run import Target, start_run
