"""The walls, the direction of imports, and the sizes: read from the source, nothing is run."""

import ast
import re
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
    "moto": ("cloudknot.local",),
    "waitress": ("cloudknot.local",),
    "virtualenv": ("cloudknot.local",),
    "docker": ("cloudknot.image.builder", "cloudknot.local.runners.docker"),
}
ORDER = [
    "errors",
    "options",
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
"""The folders from the bottom up: a module imports from its own folder and from those above it in this list."""
APART = {"local": {"errors", "options", "worker", "aws", "local"}, "__init__": set(ORDER) | {"local"}}
"""Beside the order: the embedded cloud, with the folders that it uses, and the table of public names."""
ENTRANCES = {"cloudknot.cli.local": "the commands of the embedded cloud", "cloudknot.__init__": "public names"}
"""The modules that import ``local``; `cloudknot.aws.cloud.choose_cloud` finds it by name."""
LOCAL_ORDER = [
    "local.__init__",
    "local.wsgi",
    "local.state",
    "local.iam",
    "local.admin",
    "local.batch",
    "local.cloudformation",
    "local.runners",
    "local.options",
    "local.faults",
    "local.server",
    "local.cloud",
]
"""The folders of the embedded cloud from the bottom up, without the imports for type checkers."""
WORKER_MAY = {"boto3", "botocore", "cloudpickle"}
WORKER_TYPES = {"_typeshed", "types_boto3_s3"}
"""Inside ``if TYPE_CHECKING``, which no container runs."""


def imports_of(path):
    """Absolute names that a file imports anywhere, those for type checkers too."""
    package = MODULES[path] if path.name == "__init__.py" else MODULES[path].rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.removesuffix(".__init__").split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            name = ".".join(filter(None, (base, node.module)))
            yield from (f"{name}.{alias.name}" for alias in node.names)


def is_in(name, package):
    return name == package or name.startswith(f"{package}.")


def module_of(name):
    """The module of ours that an imported name is in, the package itself for its public names."""
    known = set(MODULES.values())
    while name and name not in known:
        if f"{name}.__init__" in known:
            return f"{name}.__init__"
        name = name.rpartition(".")[0]
    return name if name != "cloudknot" else "cloudknot.__init__"


def folder_of(module):
    """The entry of ORDER or APART that a module is in."""
    name = module.removeprefix("cloudknot.")
    places = [place for place in (*ORDER, *APART) if is_in(name, place)]
    assert places, f"{module} has no place in ORDER"
    return max(places, key=len)


def may_import(importer, target):
    here, there = folder_of(importer), folder_of(target)
    if here in APART:
        return there in APART[here]
    if there in APART:
        return (there == "local" and importer in ENTRANCES) or (here, target) == ("cli", "cloudknot.__init__")
    return ORDER.index(there) <= ORDER.index(here)


@pytest.mark.parametrize("path", MODULES, ids=MODULES.get)
def test_walls(path):
    for name in imports_of(path):
        for library, places in WALLS.items():
            if is_in(name, library):
                assert any(is_in(MODULES[path], place) for place in places), f"{MODULES[path]} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=MODULES.get)
def test_imports_point_downwards(path):
    for name in imports_of(path):
        if is_in(name, "cloudknot"):
            target = module_of(name)
            assert may_import(MODULES[path], target), f"{MODULES[path]} imports {target}, which is above it"


@pytest.mark.parametrize("path", [path for path in MODULES if "local" in path.parts[-3:-1]], ids=MODULES.get)
def test_imports_within_the_embedded_cloud_point_downwards(path):
    if MODULES[path] == "cloudknot.local.__init__":
        return
    importer = place_in_local(MODULES[path])
    for name in imports_at_run_time(path):
        if is_in(name, "cloudknot.local"):
            target = module_of(name)
            assert place_in_local(target) <= importer, f"{MODULES[path]} imports {target}, which is above it"


def place_in_local(module):
    name = module.removeprefix("cloudknot.")
    (found,) = [place for place in LOCAL_ORDER if is_in(name, place)]
    return LOCAL_ORDER.index(found)


@pytest.mark.parametrize("path", MODULES, ids=MODULES.get)
def test_stubs_are_for_type_checkers_only(path):
    """The packages of types are a dependency of the tests, and a user does not have them."""
    for name in imports_at_run_time(path):
        assert not name.startswith(("types_", "typing_extensions", "_typeshed")), f"{MODULES[path]} imports {name}"


@pytest.mark.parametrize("imports", ["at run time", "for type checkers too"])
def test_there_is_no_import_cycle(imports):
    """A reader follows the imports inside ``if TYPE_CHECKING``, too, although they run nowhere."""
    read = imports_at_run_time if imports == "at run time" else imports_of
    graph = {}
    for path, module in MODULES.items():
        targets = {module_of(name) for name in read(path) if is_in(name, "cloudknot")}
        graph[module] = targets - {module}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)


def for_type_checkers(tree):
    """The nodes inside ``if TYPE_CHECKING``."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


def imports_at_run_time(path):
    tree = ast.parse(path.read_text())
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


@pytest.mark.parametrize(
    "path", [path for path in MODULES if is_in(MODULES[path], "cloudknot.worker")], ids=lambda path: path.name
)
def test_the_worker_stands_alone(path):
    import sys

    tree = ast.parse(path.read_text())
    hidden = for_type_checkers(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            top = name.partition(".")[0]
            may = WORKER_MAY | WORKER_TYPES if node in hidden else WORKER_MAY
            assert top in may or top in sys.stdlib_module_names, f"the worker imports {name}"


FOLDERS = sorted({path.parent for path in (*MODULES, *(ROOT / "tests").rglob("*.py"))})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_has_at_most_a_dozen_entries(folder):
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith("__") and entry.name != "py.typed"]
    assert len(entries) <= 12, sorted(entry.name for entry in entries)


@pytest.mark.parametrize("path", MODULES, ids=MODULES.get)
def test_modules_and_functions_are_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = node.end_lineno - node.lineno + 1
            assert size <= 60, f"{node.name} has {size} lines"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_tests_are_small(path):
    assert len(path.read_text().splitlines()) <= 600


def test_every_module_tells_its_place():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


SAME_NAMES = {
    "Job": "AWS Batch's noun: as the client reads it, and as the embedded cloud keeps it",
    "JobDefinition": "AWS Batch's noun: as a knot shows it, and as a resource type of the embedded CloudFormation",
}
"""Classes of one name in two modules, with the reason."""


def test_no_two_classes_share_a_name():
    homes = {}
    for path, module in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: places for name, places in homes.items() if len(places) > 1}.keys() == SAME_NAMES.keys()


MAP = (ROOT / "docs" / "architecture.md").read_text()


NO_MODULES = {"map", "cloudknot", "cloudknot_worker", "choose_cloud"}
"""Words in backticks on the map that are no modules of a box."""


def paths_on_the_map():
    """Yield each path in docs/architecture.md, with the box whose paragraph names it."""
    _, picture, text = MAP.split("```")
    for name in re.findall(r"(?<![\w/.])(?:[a-z_]+/)+(?!\w)|\b[a-z_]+\.py\b", picture):
        yield "", name
    for paragraph in text.split("\n\n"):
        box = re.match(r"\*\*`([\w/]+/)`\*\*", paragraph)
        for name in re.findall(r"`([a-z_]+\.py|(?:[\w.]+/)+[\w.]*)`", paragraph):
            yield box[1] if box else "", name
        for name in re.findall(r"`([a-z][a-z_0-9]+)`", paragraph if box else ""):
            if name not in NO_MODULES:
                yield box[1], f"{name}.py"


@pytest.mark.parametrize(("box", "name"), sorted(set(paths_on_the_map())))
def test_a_path_on_the_map_exists(box, name):
    """``folder/``, ``folder/file.py`` or ``folder/file``: in the package, or in the folder of the paragraph."""
    candidates = [folder / (name + end) for folder in (PACKAGE, PACKAGE / box) for end in ("", ".py")]
    assert any(path.is_dir() if name.endswith("/") else path.exists() for path in candidates)
