"""The operations of services with AWS's REST protocol by method and path, as botocore's descriptions have them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from cloudknot.aws.sdk.service_models import service_model


@dataclass(frozen=True)
class RestRoute:
    """The method and the path of an operation, and the names of the arguments in its path and in its query."""

    operation: str
    method: str
    template: str
    in_path: frozenset[str]
    in_query: frozenset[str]

    @property
    def pattern(self) -> re.Pattern[str]:
        """The expression for paths of the operation, with a group for each argument."""
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.template)))


def find_route(service: str, method: str, path: str) -> tuple[RestRoute, dict[str, str]] | None:
    """Return the operation at a raw path with the arguments in it, or None if the service has none there."""
    fixed, patterns = _tables(service)
    if (method, path) in fixed:
        return fixed[method, path], {}
    matches = ((route, pattern.fullmatch(path)) for route, pattern in patterns if route.method == method)
    return next(((route, match.groupdict()) for route, match in matches if match), None)


def _route(service: str, operation: str) -> RestRoute:
    """Return the method and the path of an operation."""
    model = service_model(service).operation_model(operation)
    members = model.input_shape.members if model.input_shape else {}

    def names(place: str) -> frozenset[str]:
        found = ((name, shape.serialization) for name, shape in members.items())
        return frozenset(about.get("name", name) for name, about in found if about.get("location") == place)

    return RestRoute(operation, model.http["method"], model.http["requestUri"], names("uri"), names("querystring"))


@cache
def _tables(
    service: str,
) -> tuple[Mapping[tuple[str, str], RestRoute], Sequence[tuple[RestRoute, re.Pattern[str]]]]:
    """Return the operations with a fixed path, by method and path, and the other ones with expressions."""
    routes = [_route(service, name) for name in service_model(service).operation_names]
    fixed = {(route.method, route.template): route for route in routes if not route.in_path}
    return fixed, [(route, route.pattern) for route in routes if route.in_path]
