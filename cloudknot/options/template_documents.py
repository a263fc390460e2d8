"""Parse CloudFormation templates: YAML with AWS's short forms, or JSON. No I/O.

The client checks a user's own template by this module, and the embedded CloudFormation reads each template by it.
"""

# In this folder, because the client and the embedded cloud both import it.

from __future__ import annotations

import json
from functools import cache
from typing import Any


def parse_template(text: str) -> Any:
    """Return the content of a template, with short forms expanded: ``!Ref X`` becomes ``{"Ref": "X"}``.

    Raises
    ------
    ValueError
        The text is neither YAML nor JSON.
    """
    import yaml

    try:
        # JSON may be indented by tabs, which YAML forbids.
        return json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def compose_template(text: str) -> Any:
    """Return the root node of a template in YAML, with the positions of all nodes in the text. JSON is YAML, too."""
    import yaml

    return yaml.compose(text, Loader=_loader())


@cache
def _loader() -> Any:
    """Return a loader class for YAML with short forms."""
    # A function, because importing cloudknot must not import yaml.
    import yaml

    class TemplateLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """A YAML loader for CloudFormation's short forms."""

    # CloudFormation reads dates as text: ``Version: 2012-10-17`` of a policy.
    date = "tag:yaml.org,2002:timestamp"
    TemplateLoader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != date]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    TemplateLoader.add_multi_constructor("!", _short_form)
    return TemplateLoader


def _short_form(loader: Any, suffix: str, node: Any) -> dict[str, object]:
    value: object
    if node.id == "scalar":
        value = loader.construct_scalar(node)
    elif node.id == "sequence":
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    # Ref and Condition are the only two without the prefix.
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}
