"""Load botocore's descriptions of services with a fifth of the memory.

Only the services that cloudknot itself calls are loaded in this way. Others are left to botocore.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache, partial
from typing import Any

from botocore.loaders import JSONFileLoader, Loader, create_loader

SERVICES = frozenset(("batch", "cloudformation", "codebuild", "ec2", "ecr", "iam", "logs", "s3", "sts"))
"""The services of `cloudknot.aws.clients`."""
_ENDPOINT_PREFIXES = SERVICES | {"api.ecr"}
"""Their names in botocore's list of endpoints."""
_READ_AHEAD = 1 << 16
_DOCUMENTATION = re.compile(rb'"documentation"\s*:\s*"[^"\\]*(?:\\.[^"\\]*)*"')
_SHAPES = re.compile(r'"shapes"\s*:\s*(?={)')
_NAME = re.compile(r'[\s,]*"(\w+)"\s*:\s*')


@cache
def shared_loader(paths: str) -> Loader:
    """Return the loader that all sessions of this process share, with the user's additional ``paths``."""
    # The loader caches the descriptions that it has decoded. A loader for each `Cloud` would take a fifth of a second
    # and many megabytes each time.
    loader = create_loader(paths or None)
    loader.file_loader = Files()
    list_all = loader.list_available_services
    loader.list_available_services = lambda type_name: ServiceNames(partial(list_all, type_name))  # type: ignore
    return loader


class ServiceNames(Collection[str]):
    """The names of all services. botocore looks into 400 folders for them, only to check a name.

    Parameters
    ----------
    list_all : callable
        Lists the names.
    """

    def __init__(self, list_all: Callable[[], list[str]]) -> None:
        self._list_all = list_all

    def __contains__(self, name: object) -> bool:
        # Others are those of the user, and of logins with SSO.
        return name in SERVICES or name in self._list_all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._list_all())

    def __len__(self) -> int:
        return len(self._list_all())


class Files(JSONFileLoader):
    """The reader of botocore's data files, which leaves out what calls do not need."""

    def load_file(self, file_path: str) -> Any:
        """Return the content of a file, named without its ending; None if it does not exist."""
        # The list of endpoints has no documentation.
        has_documentation = not file_path.endswith("endpoints")
        text = _read(file_path, has_documentation)
        if text is None:
            return None
        # Plain dicts, where botocore makes OrderedDicts, which are twice as large.
        if not has_documentation:
            return json.loads(text, object_pairs_hook=_own_services)
        return _parse(text) if file_path.endswith("service-2") else json.loads(text)


class Shapes(dict[str, Any]):
    """The types of a service's requests and answers. Each stays text until its first use.

    EC2 has 4,400 of them, and the creation of a knot needs some dozens.
    """

    def __getitem__(self, name: str) -> Any:
        shape = super().__getitem__(name)
        if isinstance(shape, str):
            shape = self[name] = json.loads(shape)
        return shape

    # The methods of dict would return the text.
    get, items, values = Mapping.get, Mapping.items, Mapping.values  # type: ignore[assignment]


def _read(path: str, has_documentation: bool = True) -> str | None:
    """Return the text of a file without its documentation, which is half of it."""
    for ending, open_file in ((".json", open), (".json.gz", gzip.open)):
        if os.path.isfile(path + ending):
            text = bytearray()
            # gzip reads lines in Python, 150,000 of them for a knot. The buffer does so in C.
            with open_file(path + ending, "rb") as unbuffered, io.BufferedReader(unbuffered, _READ_AHEAD) as file:
                # No string of JSON goes on in the next line.
                while lines := file.readlines(_READ_AHEAD):
                    part = b"".join(lines)
                    text += _DOCUMENTATION.sub(b'"documentation":""', part) if has_documentation else part
            return text.decode()
    return None


def _parse(text: str) -> Any:
    """Return the description of a service, with its shapes as `Shapes`."""
    if start := _SHAPES.search(text):
        shapes, end = _split(text, start.end())
        description = json.loads(f"{text[: start.end()]}{{}}{text[end:]}")
        if description.get("shapes") == {}:
            description["shapes"] = shapes
            return description
    # Not the format that botocore has had so far.
    return json.loads(text)


def _split(text: str, start: int) -> tuple[Shapes, int]:
    """Return the members of the JSON object at ``start`` as text by name, and the end of the object."""
    decode, shapes, end = json.JSONDecoder().raw_decode, Shapes(), start + 1
    while name := _NAME.match(text, end):
        _, end = decode(text, name.end())
        shapes[name[1]] = text[name.end() : end]
    return shapes, text.index("}", end) + 1


def _own_services(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object in botocore's list of endpoints, without the services that cloudknot does not call."""
    found = dict(pairs)
    if "services" in found:
        services = found["services"]
        found["services"] = {name: services[name] for name in services.keys() & _ENDPOINT_PREFIXES}
    return found
