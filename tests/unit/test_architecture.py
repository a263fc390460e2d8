"""The source keeps the walls, the direction of imports and the sizes of docs/architecture.md. No module is run."""

import ast
import re
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import cloudknot
from tests.helpers.paths import ROOT

PACKAGE = Path(cloudknot.__file__).parent
MODULES = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
WALLS = {
    "boto3": ("cloudknot.aws", "cloudknot.worker"),
    "botocore": ("cloudknot.aws", "cloudknot.worker", "cloudknot.local.iam.signing"),
    "urllib3": ("cloudknot.aws.images.registry", "cloudknot.image.engine.connection"),
    "moto": ("cloudknot.local",),
    "waitress": ("cloudknot.local",),
    "docker": ("cloudknot.image.engine", "cloudknot.local.runners.docker"),
}
"""Libraries, with the modules and folders that may import each."""
ORDER = [
    "errors",
    "options",
    "program.files",
    "program.packages",
    "worker",
    "aws",
    "display",
    "program",
    "image",
    "deploy",
    "run.submit",
    "run.collect",
    "run.jobs",
    "run",
    "knot",
    "cli",
    "__main__",
]
"""The folders from the bottom up. A module imports only from its own folder and from folders earlier in this list."""
APART = {
    "local": {"errors", "options", "program.files", "program.packages", "worker", "aws", "local"},
    "__init__": set(ORDER) | {"local"},
}
"""Folders outside the order, with the folders that each may import: the embedded cloud, and the public names."""
ENTRANCES = {"cloudknot.cli.local": "the commands of the embedded cloud", "cloudknot.__init__": "public names"}
"""Modules that import ``local``, with the reason. `cloudknot.aws.cloud.choose_cloud` imports it by name."""
LOCAL_ORDER = [
    "local.__init__",
    "local.wsgi",
    "local.directory",
    "local.iam",
    "local.admin",
    "local.s3",
    "local.batch",
    "local.cloudformation",
    "local.codebuild",
    "local.runners",
    "local.options",
    "local.server",
    "local.session",
]
"""The folders of the embedded cloud from the bottom up. Imports for type checkers do not count."""
WORKER_LIBRARIES = {"boto3", "botocore", "cloudpickle"}
WORKER_TYPES = {"_typeshed", "types_boto3_s3"}
"""Libraries that only imports inside ``if TYPE_CHECKING`` may name, because no container has them."""


@cache
def source(path):
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


@cache
def tree_of(path):
    """Return the syntax tree of a file. All tests share it, since parsing takes most of their time."""
    return ast.parse(source(path))


@cache
def imports_of(path):
    """Return the absolute names of all imports in a file, including imports for type checkers."""
    return tuple(_imports_of(path))


def _imports_of(path):
    package = MODULES[path] if path.name == "__init__.py" else MODULES[path].rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.removesuffix(".__init__").split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, (base, node.module)))
            yield from (f"{name}.{alias.name}" for alias in node.names)


def is_in(name, package):
    return name == package or name.startswith(f"{package}.")


@cache
def module_of(name):
    """Return the module of cloudknot that contains an imported name; the package itself for public names."""
    modules = set(MODULES.values())
    while name and name not in modules:
        if f"{name}.__init__" in modules:
            return f"{name}.__init__"
        name = name.rpartition(".")[0]
    return name if name != "cloudknot" else "cloudknot.__init__"


def folder_of(module):
    """Return the entry of ORDER or APART that contains a module."""
    name = module.removeprefix("cloudknot.")
    places = [place for place in (*ORDER, *APART) if is_in(name, place)]
    assert places, f"{module} has no place in ORDER"
    return max(places, key=len)


def may_import(importer, target):
    """Return whether the order lets one module import another. The command may also use the public names."""
    here, there = folder_of(importer), folder_of(target)
    if here in APART:
        return there in APART[here]
    if there in APART:
        return (there == "local" and importer in ENTRANCES) or (here, target) == ("cli", "cloudknot.__init__")
    return ORDER.index(there) <= ORDER.index(here)


def all_imports(find=None):
    """Yield each module with the name of each of its imports."""
    for path, module in MODULES.items():
        yield from ((module, name) for name in (find or imports_of)(path))


# Each rule is one test, which lists all places that break it: a test for each file and rule would be thousands.
def test_modules_import_walled_libraries_only_inside_their_wall():
    wrong = [
        f"{module} imports {name}"
        for module, name in all_imports()
        for library, places in WALLS.items()
        if is_in(name, library) and not any(is_in(module, place) for place in places)
    ]
    assert wrong == []


def test_modules_import_only_from_their_own_floor_and_below():
    inside = {(module, module_of(name)) for module, name in all_imports() if is_in(name, "cloudknot")}
    assert [f"{module} imports {target}" for module, target in inside if not may_import(module, target)] == []


def test_embedded_cloud_modules_import_only_from_their_own_floor_and_below():
    inside = {
        (module, module_of(name))
        for module, name in all_imports(imports_at_run_time)
        if is_in(module, "cloudknot.local") and is_in(name, "cloudknot.local")
    }
    wrong = [
        f"{module} imports {target}"
        for module, target in inside
        if module != "cloudknot.local.__init__" and place_in_local(target) > place_in_local(module)
    ]
    assert wrong == []


def place_in_local(module):
    """Return the position in LOCAL_ORDER of the entry that contains a module."""
    name = module.removeprefix("cloudknot.")
    (entry,) = [place for place in LOCAL_ORDER if is_in(name, place)]
    return LOCAL_ORDER.index(entry)


def test_modules_import_type_stubs_only_for_type_checkers():
    """Only the tests depend on stub packages, so an import at run time would fail for a user."""
    stubs = ("types_", "typing_extensions", "_typeshed")
    wrong = [f"{module} imports {name}" for module, name in all_imports(imports_at_run_time) if name.startswith(stubs)]
    assert wrong == []


@pytest.mark.parametrize("imports", ["at run time", "for type checkers too"])
def test_modules_have_no_import_cycle(imports):
    """People read along the imports inside ``if TYPE_CHECKING`` too, although these never run."""
    imports_in = imports_at_run_time if imports == "at run time" else imports_of
    graph = {}
    for path, module in MODULES.items():
        targets = {module_of(name) for name in imports_in(path) if is_in(name, "cloudknot")}
        graph[module] = targets - {module}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


def for_type_checkers(tree):
    """Return the nodes inside ``if TYPE_CHECKING``."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


@cache
def imports_at_run_time(path):
    """Return the absolute names of the imports in a file, without imports for type checkers."""
    return tuple(_imports_at_run_time(path))


def _imports_at_run_time(path):
    tree = tree_of(path)
    hidden = for_type_checkers(tree)
    package = MODULES[path].removesuffix(".__init__") if path.name == "__init__.py" else ""
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parents = (package or MODULES[path].rpartition(".")[0]).split(".")
                base = ".".join(parents[: len(parents) - node.level + 1])
                name = ".".join(filter(None, (base, node.module)))
            else:
                name = node.module
            yield from (f"{name}.{alias.name}" for alias in node.names)


def test_worker_imports_only_standard_library_boto3_and_cloudpickle():
    wrong = []
    for path in (path for path, module in MODULES.items() if is_in(module, "cloudknot.worker")):
        hidden = for_type_checkers(tree_of(path))
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.level:
                continue
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            permitted = WORKER_LIBRARIES | WORKER_TYPES if node in hidden else WORKER_LIBRARIES
            tops = {name.partition(".")[0] for name in names}
            wrong += [f"{path.name} imports {top}" for top in tops - permitted - sys.stdlib_module_names]
    assert wrong == []


FOLDERS = sorted({path.parent for path in (*MODULES, *(ROOT / "tests").rglob("*.py"))})


def test_folders_have_at_most_12_entries():
    entries = {
        str(folder.relative_to(ROOT)): sorted(
            entry.name for entry in folder.iterdir() if not entry.name.startswith("__") and entry.name != "py.typed"
        )
        for folder in FOLDERS
    }
    assert {folder: names for folder, names in entries.items() if len(names) > 12} == {}


def test_files_have_at_most_600_lines():
    files = [*MODULES, *(ROOT / "tests").rglob("*.py")]
    sizes = {str(path.relative_to(ROOT)): len(source(path).splitlines()) for path in files}
    assert {path: size for path, size in sizes.items() if size > 600} == {}


def test_functions_have_at_most_60_lines():
    sizes = [
        (f"{module}.{node.name}", node.end_lineno - node.lineno + 1)
        for path, module in MODULES.items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [(name, size) for name, size in sizes if size > 60] == []


def test_every_module_has_docstring():
    for path in MODULES:
        assert ast.get_docstring(tree_of(path)), f"{path} has no docstring"


SAME_NAMES = {
    "Job": "AWS Batch's noun: as the client reads it, and as the embedded cloud keeps it",
}
"""Names that two classes share, with the reason."""


def test_class_names_are_unique_except_batch_nouns():
    homes = {}
    for path, module in MODULES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: places for name, places in homes.items() if len(places) > 1}.keys() == SAME_NAMES.keys()


PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


NOT_MODULES = {"map", "cloudknot", "cloudknot_worker", "choose_cloud"}
"""Words in backticks on the page that are not modules."""


def paths_on_page():
    """Yield each path in docs/architecture.md, with the box of its paragraph."""
    _, drawing, text = PAGE.split("```")
    for name in re.findall(r"(?<![\w/.])(?:[a-z_]+/)+(?!\w)|\b[a-z_]+\.py\b", drawing):
        yield "", name
    for paragraph in text.split("\n\n"):
        box = re.match(r"\*\*`([\w/]+/)`\*\*", paragraph)
        for name in re.findall(r"`([a-z_]+\.py|(?:[\w.]+/)+[\w.]*)`", paragraph):
            yield box[1] if box else "", name
        for name in re.findall(r"`([a-z][a-z_0-9]+)`", paragraph if box else ""):
            if name not in NOT_MODULES:
                yield box[1], f"{name}.py"


def test_paths_in_architecture_page_exist():
    assert [name for box, name in set(paths_on_page()) if not exists(box, name)] == []


def exists(box, name):
    """Return whether a path ``folder/``, ``folder/file.py`` or ``folder/file`` is in the package or in its box."""
    candidates = [folder / (name + end) for folder in (PACKAGE, PACKAGE / box) for end in ("", ".py")]
    return any(path.is_dir() if name.endswith("/") else path.exists() for path in candidates)
