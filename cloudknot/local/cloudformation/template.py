"""Templates: their text, their conditions, and the values of their intrinsic functions. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import yaml

from cloudknot.local.cloudformation.records import TemplateDocument, ValidationError

NO_VALUE = object()
"""What AWS::NoValue stands for: the property is left out."""

Lookup = Callable[[str, str], str]
"""``lookup(logical_id, attribute)`` of a resource that exists; the attribute ``""`` is what Ref gives."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with CloudFormation's short forms: ``!Ref X`` is ``{"Ref": "X"}``, ``!Sub X`` is ``{"Fn::Sub": "X"}``."""


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, object]:
    value: object
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def load(text: str) -> TemplateDocument:
    """Parse a template."""
    try:
        template: TemplateDocument = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValidationError(f"Template format error: YAML not well-formed. {error}") from error
    if not isinstance(template, dict) or not template.get("Resources"):
        raise ValidationError("Template format error: At least one Resources member must be defined.")
    return template


def parameters_of(template: TemplateDocument, given: Mapping[str, str]) -> dict[str, str]:
    """The value of every parameter of a template."""
    declared = template.get("Parameters", {})
    if unknown := sorted(set(given) - set(declared)):
        raise ValidationError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    if missing := sorted(name for name, one in declared.items() if name not in given and "Default" not in one):
        raise ValidationError(f"Parameters: [{', '.join(missing)}] must have values")
    values = {name: str(given.get(name, one.get("Default"))) for name, one in declared.items()}
    for name, one in declared.items():
        allowed = [str(value) for value in one.get("AllowedValues", ())]
        if allowed and values[name] not in allowed:
            raise ValidationError(f"Parameter {name} must be one of AllowedValues")
    return values


class Resolver:
    """Values of a template's expressions.

    Parameters
    ----------
    template : mapping
        As `load` gives it.
    parameters : mapping
        The parameters, and the pseudo parameters such as ``AWS::Region``.
    lookup : callable
        Asked for resources. Conditions need none.
    """

    def __init__(self, template: TemplateDocument, parameters: Mapping[str, str], lookup: Lookup) -> None:
        self._conditions = template.get("Conditions", {})
        self._parameters, self._lookup = parameters, lookup

    def condition(self, name: str | None) -> bool:
        """Whether a condition holds; without a name it does."""
        if name is None:
            return True
        if name not in self._conditions:
            raise ValidationError(f"Template format error: Unresolved condition dependency {name}")
        return bool(self.value(self._conditions[name]))

    def value(self, expression: object) -> object:
        """Return the value of an expression, with everything in it."""
        if isinstance(expression, list):
            return self.values(expression)
        if not isinstance(expression, dict):
            return expression
        if len(expression) == 1:
            ((name, argument),) = expression.items()
            function = _FUNCTIONS.get(name)
            if function is not None:
                return function(self, argument)
        return self.members(expression)

    def values(self, expressions: Iterable[object]) -> list[object]:
        """Return the values of some expressions, those of AWS::NoValue left out."""
        return [value for value in map(self.value, expressions) if value is not NO_VALUE]

    def members(self, expressions: Mapping[str, object]) -> dict[str, object]:
        """Return the values of named expressions, those of AWS::NoValue left out."""
        values = {name: self.value(expression) for name, expression in expressions.items()}
        return {name: value for name, value in values.items() if value is not NO_VALUE}

    def listed(self, expression: object) -> list[object]:
        """Return the value of an expression that must be a list."""
        value = self.value(expression)
        if not isinstance(value, list):
            raise ValidationError(f"Template error: {expression} is not a list")
        return value

    def ref(self, name: str) -> object:
        """What Ref gives: a parameter, or a resource's physical id."""
        if name == "AWS::NoValue":
            return NO_VALUE
        return self._parameters[name] if name in self._parameters else self._lookup(name, "")

    def attribute(self, name: str, attribute: str) -> str:
        """What GetAtt gives."""
        return self._lookup(name, attribute)

    def sub(self, argument: str | tuple[str, Mapping[str, object]]) -> str:
        """A text with its ``${...}`` replaced."""
        text, own = (argument, {}) if isinstance(argument, str) else (argument[0], self.members(argument[1]))

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in own:
                return str(own[name])
            logical, _, attribute = name.partition(".")
            return str(self.attribute(logical, attribute) if attribute else self.ref(name))

        return re.sub(r"\$\{([^!}][^}]*)\}", replace, text)


def _if(resolver: Resolver, argument: tuple[str, object, object]) -> object:
    return resolver.value(argument[1] if resolver.condition(argument[0]) else argument[2])


def _equals(resolver: Resolver, argument: tuple[object, object]) -> bool:
    left, right = (_text(resolver.value(side)) for side in argument)
    return left == right


def _select(resolver: Resolver, argument: tuple[object, object]) -> object:
    index, values = int(str(resolver.value(argument[0]))), resolver.listed(argument[1])
    if not 0 <= index < len(values):
        raise ValidationError(f"Template error: Fn::Select cannot select nonexistent value at index {index}")
    return values[index]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_FUNCTIONS: Mapping[str, Callable[[Resolver, Any], object]] = {
    "Ref": Resolver.ref,
    "Condition": Resolver.condition,
    "Fn::GetAtt": lambda resolver, argument: resolver.attribute(*argument),
    "Fn::Sub": Resolver.sub,
    "Fn::If": _if,
    "Fn::Equals": _equals,
    "Fn::Not": lambda resolver, argument: not resolver.value(argument[0]),
    "Fn::And": lambda resolver, argument: all(resolver.value(item) for item in argument),
    "Fn::Or": lambda resolver, argument: any(resolver.value(item) for item in argument),
    "Fn::Join": lambda resolver, argument: argument[0].join(map(str, resolver.listed(argument[1]))),
    "Fn::Split": lambda resolver, argument: str(resolver.value(argument[1])).split(argument[0]),
    "Fn::Select": _select,
}


def references(expression: object) -> Iterator[str]:
    """The names that an expression may refer to, parameters among them."""
    if isinstance(expression, list):
        for item in expression:
            yield from references(item)
    elif isinstance(expression, dict):
        for name, value in expression.items():
            if name == "Ref":
                yield value
            elif name == "Fn::GetAtt":
                yield value[0]
            elif name == "Fn::Sub":
                yield from _references_of_sub(value)
            else:
                yield from references(value)


def _references_of_sub(argument: str | tuple[str, Mapping[str, object]]) -> Iterator[str]:
    text, own = (argument, {}) if isinstance(argument, str) else argument
    yield from references(own)
    for name in re.findall(r"\$\{([^!}][^}]*)\}", text):
        yield name.partition(".")[0]
