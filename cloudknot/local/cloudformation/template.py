"""Templates: parsing, conditions and the values of intrinsic functions. No I/O."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from cloudknot.local.cloudformation.records import ParameterDeclaration, TemplateDocument, ValidationError
from cloudknot.options.template_documents import parse_template

NO_VALUE = object()
"""The value of AWS::NoValue. A property with this value is left out."""

Lookup = Callable[[str, str], str]
"""``lookup(logical_id, attribute)`` for an existing resource. The attribute ``""`` stands for the value of Ref."""


SECTIONS = {
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
}
"""The sections of a template that the embedded cloud knows. Not among them are Rules, Transform and Hooks."""
LISTS = re.compile(r"CommaDelimitedList|List<.+>")
"""The types of parameters whose values are lists, written with commas."""


def load(text: str) -> TemplateDocument:
    """Parse the text of a template. Raise `ValidationError` if it is no template, or has unknown sections."""
    try:
        template: TemplateDocument = parse_template(text)
    except ValueError as error:
        raise ValidationError(f"Template format error: YAML not well-formed. {error}") from error
    if not isinstance(template, dict) or not template.get("Resources"):
        raise ValidationError("Template format error: At least one Resources member must be defined.")
    if unknown := sorted(map(str, set(template) - SECTIONS)):
        raise ValidationError(
            f"Invalid template property or properties [{', '.join(unknown)}]. "
            f"The embedded cloud knows {', '.join(sorted(SECTIONS))}."
        )
    if unknown := sorted({name for name in _functions(template) if name not in _FUNCTIONS}):
        raise ValidationError(
            f"Template error: the embedded cloud does not know the functions {', '.join(unknown)}. "
            f"It knows {', '.join(sorted(_FUNCTIONS))}."
        )
    return template


def _functions(expression: object) -> Iterator[str]:
    """Yield the names of all intrinsic functions in a template."""
    if isinstance(expression, list):
        for item in expression:
            yield from _functions(item)
    elif isinstance(expression, dict):
        for name, value in expression.items():
            if str(name).startswith("Fn::"):
                yield str(name)
            yield from _functions(value)


def parameter_values(template: TemplateDocument, arguments: Mapping[str, str]) -> dict[str, str]:
    """Return the values of all parameters of a template, from ``arguments`` or else from their defaults."""
    declarations = template.get("Parameters", {})
    if unknown := sorted(set(arguments) - set(declarations)):
        raise ValidationError(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    required = {name for name, declaration in declarations.items() if "Default" not in declaration}
    if missing := sorted(required - set(arguments)):
        raise ValidationError(f"Parameters: [{', '.join(missing)}] must have values")
    values = {name: str(arguments.get(name, declaration.get("Default"))) for name, declaration in declarations.items()}
    for name, declaration in declarations.items():
        _check_value(name, values[name], declaration)
    return values


def _check_value(name: str, value: str, declaration: ParameterDeclaration) -> None:
    """Raise `ValidationError` unless a parameter's declaration permits its value."""
    kind = declaration.get("Type", "String")
    if kind.startswith("AWS::SSM"):
        raise ValidationError(f"Parameter {name} has the type {kind}, which the embedded cloud does not know")
    # YAML may parse an allowed value as a number or a boolean, while parameters are text.
    allowed = [str(each) for each in declaration.get("AllowedValues", ())]
    if allowed and value not in allowed:
        raise ValidationError(f"Parameter {name} must be one of AllowedValues")
    if "AllowedPattern" in declaration and not re.fullmatch(str(declaration["AllowedPattern"]), value):
        raise ValidationError(f"Parameter {name} failed to satisfy constraint: {declaration['AllowedPattern']}")
    if kind != "Number":
        return
    try:
        number = float(value)
    except ValueError as error:
        raise ValidationError(f"Parameter {name} must be a number") from error
    if not float(str(declaration.get("MinValue", "-inf"))) <= number <= float(str(declaration.get("MaxValue", "inf"))):
        raise ValidationError(f"Parameter {name} is not between MinValue and MaxValue")


class Resolver:
    """An evaluator of a template's expressions.

    Parameters
    ----------
    template : mapping
        A template from `load`.
    parameters : mapping
        The parameters, and the pseudo parameters such as ``AWS::Region``.
    lookup : callable
        Returns a resource's physical id or one of its attributes. Conditions do not call it.
    """

    def __init__(self, template: TemplateDocument, parameters: Mapping[str, str], lookup: Lookup) -> None:
        self._conditions, self._mappings = template.get("Conditions", {}), template.get("Mappings", {})
        self._parameters, self._lookup = parameters, lookup
        declared = template.get("Parameters", {}).items()
        self._lists = {name for name, declaration in declared if LISTS.fullmatch(declaration.get("Type", ""))}

    def condition(self, name: str | None) -> bool:
        """Return the value of a named condition. None counts as a true condition."""
        if name is None:
            return True
        if name not in self._conditions:
            raise ValidationError(f"Template format error: Unresolved condition dependency {name}")
        return bool(self.value(self._conditions[name]))

    def value(self, expression: object) -> object:
        """Return the value of an expression, including all expressions within it."""
        if isinstance(expression, list):
            return self.values(expression)
        if not isinstance(expression, dict):
            return expression
        # A function is a dict with one key. A dict with more keys is a plain value.
        if len(expression) == 1:
            ((name, argument),) = expression.items()
            function = _FUNCTIONS.get(name)
            if function is not None:
                return function(self, argument)
        return self.members(expression)

    def values(self, expressions: Iterable[object]) -> list[object]:
        """Return the values of the expressions, without those of AWS::NoValue."""
        return [value for value in map(self.value, expressions) if value is not NO_VALUE]

    def members(self, expressions: Mapping[str, object]) -> dict[str, object]:
        """Return the values of the named expressions, without those of AWS::NoValue."""
        values = {name: self.value(expression) for name, expression in expressions.items()}
        return {name: value for name, value in values.items() if value is not NO_VALUE}

    def list_value(self, expression: object) -> list[object]:
        """Return the value of an expression. Raise `ValidationError` if it is no list."""
        value = self.value(expression)
        if not isinstance(value, list):
            raise ValidationError(f"Template error: {expression} is not a list")
        return value

    def ref(self, name: str) -> object:
        """Return the value of Ref: a parameter, or the physical id of a resource."""
        # The only pseudo parameter without text as its value.
        if name == "AWS::NoValue":
            return NO_VALUE
        if name not in self._parameters:
            return self._lookup(name, "")
        value = self._parameters[name]
        return [item.strip() for item in value.split(",")] if name in self._lists else value

    def mapped(self, argument: Sequence[object]) -> object:
        """Return the value of Fn::FindInMap: an entry of a mapping."""
        mapping, *keys = (str(self.value(part)) for part in argument)
        value: object = self._mappings.get(mapping)
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            raise ValidationError(f"Template error: Unable to get mapping for {'::'.join([mapping, *keys])}")
        return value

    def attribute(self, name: str, attribute: str) -> str:
        """Return the value of Fn::GetAtt: an attribute of a resource."""
        return self._lookup(name, attribute)

    def sub(self, argument: str | tuple[str, Mapping[str, object]]) -> str:
        """Return the value of Fn::Sub: a text with the values of its ``${...}``."""
        text, variables = (argument, {}) if isinstance(argument, str) else (argument[0], self.members(argument[1]))

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name in variables:
                return str(variables[name])
            logical, _, attribute = name.partition(".")
            return str(self.attribute(logical, attribute) if attribute else self.ref(name))

        # ${!Name} is literal text in CloudFormation, so the pattern leaves it out.
        return re.sub(r"\$\{([^!}][^}]*)\}", replace, text)


def _if(resolver: Resolver, argument: tuple[str, object, object]) -> object:
    return resolver.value(argument[1] if resolver.condition(argument[0]) else argument[2])


def _equals(resolver: Resolver, argument: tuple[object, object]) -> bool:
    left, right = (_text(resolver.value(side)) for side in argument)
    return left == right


def _select(resolver: Resolver, argument: tuple[object, object]) -> object:
    index, values = int(str(resolver.value(argument[0]))), resolver.list_value(argument[1])
    if not 0 <= index < len(values):
        raise ValidationError(f"Template error: Fn::Select cannot select nonexistent value at index {index}")
    return values[index]


def _text(value: object) -> str:
    # A boolean of YAML equals its text in CloudFormation: "true" or "false".
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
    "Fn::Join": lambda resolver, argument: argument[0].join(map(str, resolver.list_value(argument[1]))),
    "Fn::Split": lambda resolver, argument: str(resolver.value(argument[1])).split(argument[0]),
    "Fn::Select": _select,
    "Fn::FindInMap": Resolver.mapped,
    "Fn::Base64": lambda resolver, argument: b64encode(str(resolver.value(argument)).encode()).decode(),
}


def references(expression: object) -> Iterator[str]:
    """Yield the names in an expression's Ref, Fn::GetAtt and Fn::Sub: resources, parameters and pseudo parameters."""
    # Both branches of Fn::If are included, because AWS resolves names before it evaluates conditions.
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
    text, variables = (argument, {}) if isinstance(argument, str) else argument
    yield from references(variables)
    for name in re.findall(r"\$\{([^!}][^}]*)\}", text):
        yield name.partition(".")[0]
