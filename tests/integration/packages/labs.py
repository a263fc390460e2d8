"""Projects of several build backends and layouts, each with data files, a script and a module to run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SETUPTOOLS, BACKENDS = "setuptools.build_meta", {"setuptools.build_meta": "setuptools", "hatchling.build": "hatchling"}
BACKENDS |= {"flit_core.buildapi": "flit_core", "poetry.core.masonry.api": "poetry-core", "uv_build": "uv_build"}
CORE = """\
#include <Python.h>
static PyObject *two(PyObject *self, PyObject *unused) { return PyLong_FromLong(2); }
static PyMethodDef methods[] = {{"two", two, METH_NOARGS, ""}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", 0, -1, methods};
PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }
"""
MAIN = 'def main():\n    print("here")\n\n\nif __name__ == "__main__":\n    main()\n'


@dataclass(frozen=True)
class Lab:
    """A project: its distribution, its module, its build backend, and the folder of its module."""

    name: str
    module: str
    backend: str
    root: str = "."
    settings: str = ""
    needs: tuple[str, ...] = ()

    def write(self, folder: Path) -> Path:
        """Write the project and return its folder."""
        project = folder / self.name
        package = project / self.root / self.module
        for path, text in self._files().items():
            (package / path).parent.mkdir(parents=True, exist_ok=True)
            (package / path).write_text(text)
        (project / "pyproject.toml").write_text("\n".join(self._pyproject()))
        return project

    def _files(self) -> dict[str, str]:
        return {
            "__init__.py": "class Sample:\n    pass\n",
            "config.py": "LIMIT = 3\n",
            "__main__.py": MAIN,
            "data/table.csv": "1,2\n",
        }

    def _pyproject(self) -> Iterator[str]:
        yield f'[build-system]\nrequires = ["{BACKENDS[self.backend]}"]\nbuild-backend = "{self.backend}"'
        yield f'[project]\nname = "{self.name}"\nversion = "0.1"\ndescription = "A lab."'
        yield f"dependencies = {list(self.needs)}"
        yield f'[project.scripts]\n{self.name}-run = "{self.module.replace("/", ".")}.__main__:main"'
        yield self.settings


DATA = '[tool.setuptools.package-data]\n"*" = ["data/*.csv"]\n'
LABS = [
    Lab("lab-setup", "lab_setup", SETUPTOOLS, "src", DATA),
    Lab("lab-flat", "lab_flat", SETUPTOOLS, ".", f'[tool.setuptools]\npackages = ["lab_flat"]\n{DATA}'),
    Lab("lab-hatch", "hlab", "hatchling.build", ".", '[tool.hatch.build.targets.wheel]\npackages = ["hlab"]\n'),
    Lab("lab-flit", "lab_flit", "flit_core.buildapi"),
    Lab("lab-poetry", "lab_poetry", "poetry.core.masonry.api", "src"),
    Lab("lab-uv", "lab_uv", "uv_build", "src"),
]


def namespace_package(folder: Path) -> Path:
    """Write a package in the namespace ``labspace``. It needs lab-uv."""
    project = Lab("lab-space", "labspace/tools", SETUPTOOLS, "src", needs=("lab-uv>=0.1",)).write(folder)
    (project / "src/labspace/tools/__init__.py").write_text('WHERE = "here"\n')
    return project


def compiled_package(folder: Path) -> Path:
    """Write a package with an extension in C."""
    project = Lab("lab-fast", "fastlab", SETUPTOOLS, "src", DATA).write(folder)
    (project / "src/fastlab/core.c").write_text(CORE)
    extension = 'Extension("fastlab._core", ["src/fastlab/core.c"])'
    text = f"from setuptools import Extension, setup\nsetup(ext_modules=[{extension}])\n"
    (project / "setup.py").write_text(text)
    return project
