"""Stand in for cloudknot in a job: modules that import it can be imported, and nothing in it can be called."""

from __future__ import annotations

from typing import NoReturn


class Absent:
    """A name of cloudknot. It has every attribute, and calling it raises an error."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __call__(self, *arguments: object, **keywords: object) -> NoReturn:
        raise RuntimeError(
            f"{self._name} is called inside a job, by a module that the job imports. Move the call of {self._name} "
            "below `if __name__ == '__main__':` in that module, or into a function that the job does not call"
        )


def __getattr__(name: str) -> Absent:
    if name.startswith("__"):
        raise AttributeError(name)
    return Absent(f"cloudknot.{name}")
