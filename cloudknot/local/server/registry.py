"""The registry behind the embedded ECR: its login, and a check that it answers."""

from __future__ import annotations

import os

from cloudknot.aws.images.ecr import RegistryLogin
from cloudknot.aws.images.registry.client import Registry
from cloudknot.errors import CloudError, CloudknotConfigurationError, PermissionDeniedError

TIMEOUT = 8.0
"""Seconds without an answer until a request has failed."""
USERNAME_VARIABLE = "CLOUDKNOT_REGISTRY_USERNAME"
PASSWORD_VARIABLE = "CLOUDKNOT_REGISTRY_PASSWORD"


def login_from_environment(registry: str) -> RegistryLogin:
    """Return the login in ``CLOUDKNOT_REGISTRY_USERNAME`` and ``CLOUDKNOT_REGISTRY_PASSWORD``, for a registry."""
    # Without the variables, only a registry without access control accepts the login. "AWS" is ECR's user name.
    return RegistryLogin(registry, os.environ.get(USERNAME_VARIABLE, "AWS"), os.environ.get(PASSWORD_VARIABLE, ""))


def take_login(registry: str) -> RegistryLogin:
    """Return the login for a registry, and remove it from the environment."""
    login = login_from_environment(registry)
    # Job processes inherit this process's environment, and jobs must not see the login.
    for name in (USERNAME_VARIABLE, PASSWORD_VARIABLE):
        os.environ.pop(name, None)
    return login


def registry_of(login: RegistryLogin, timeout: float = TIMEOUT) -> Registry:
    """Return a client that gives up soon, because the callers of the embedded ECR repeat their requests."""
    return Registry(login, timeout=timeout, patience=1)


def check(registry: Registry) -> None:
    """Raise `CloudknotConfigurationError` unless the registry answers and accepts its login."""
    address = registry.address
    try:
        status = registry.ping()
    except PermissionDeniedError as error:
        raise CloudknotConfigurationError(
            f"The registry {address} refuses the login in {USERNAME_VARIABLE} and {PASSWORD_VARIABLE}. "
            f"Set these environment variables to the user name and password for `docker login {address}`."
        ) from error
    except CloudError as error:
        raise CloudknotConfigurationError(str(error)) from error
    if status != 200:
        raise CloudknotConfigurationError(
            f"The server at {address} does not answer as a container registry does: "
            f"{registry.url}/v2/ returned HTTP {status}. Pass the address of a working registry as registry=."
        )
