"""Read the lock files of other tools: ``uv.lock`` and ``pylock.toml`` (PEP 751)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cloudknot.errors import CloudknotInputError
from cloudknot.program.packages.sources.pip_lines import LineOrigin, checked
from cloudknot.program.packages.sources.project import check_python, table_of


def read_uv(path: Path, extras: tuple[str, ...]) -> list[str]:
    """Return the packages of a ``uv.lock`` beside its ``pyproject.toml``, without the project itself."""
    from cloudknot.program.packages import uv
    from cloudknot.program.packages.solving.failures import shortened

    lock, folder = table_of(path), path.absolute().parent
    check_python(str(lock.get("requires-python", "")), path)
    groups = table_of(path.with_name("pyproject.toml")).get("dependency-groups", {})
    chosen = [part for extra in extras for part in ("--group" if extra in groups else "--extra", extra)]
    command = ["export", "--frozen", "--no-default-groups", "--no-emit-project", "--no-header", "--no-annotate"]
    answer = uv.run([*command, *chosen, "--project", str(folder), "--format", "requirements.txt"], environment={})
    if answer.returncode:
        raise CloudknotInputError(
            f"uv cannot read {path}: {shortened(answer.stderr)}. Run `uv lock` in that folder, and try again."
        )
    text = answer.stdout.replace("\\\n", " ")
    origin = LineOrigin(folder)
    return [line for part in text.splitlines() for line in checked(part, origin)]


def read_pylock(path: Path) -> list[str]:
    """Return the packages of a ``pylock.toml``, with the hashes of their files."""
    lock = table_of(path)
    check_python(str(lock.get("requires-python", "")), path)
    origin = LineOrigin(path.absolute().parent)
    return [line for item in lock.get("packages", ()) for text in _line(item, path) for line in checked(text, origin)]


def _line(item: Mapping[str, Any], path: Path) -> Iterator[str]:
    marker = f" ; {item['marker']}" if "marker" in item else ""
    if "vcs" in item:
        vcs = item["vcs"]
        yield f"{item['name']} @ {vcs['type']}+{vcs['url']}@{vcs['commit-id']}{marker}"
        return
    for key in ("directory", "archive"):
        if key in item:
            place = item[key]
            address = place.get("url") or (path.absolute().parent / place["path"]).resolve().as_uri()
            yield f"{item['name']} @ {address}{marker}"
            return
    files = [*item.get("wheels", ()), *([item["sdist"]] if "sdist" in item else [])]
    hashes = [f" --hash=sha256:{file['hashes']['sha256']}" for file in files if "sha256" in file.get("hashes", {})]
    yield f"{item['name']}=={item['version']}{marker}{''.join(hashes)}"
