"""DockerImage: the image of a program, as a person can prepare, read, edit, build and share it.

Between the pure stages and Docker: what is rendered can become a directory, and what is in the directory is what is
built. A Knot makes one for itself unless it is given one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.aws.images.image_store import Image
from cloudknot.errors import CloudknotInputError, ImageError
from cloudknot.image import context, directory
from cloudknot.image.render import image_of, render
from cloudknot.options.choices import ImageOptions, KnotOptions
from cloudknot.program.program import Program, make_program
from cloudknot.program.requirements import without_pin

if TYPE_CHECKING:
    from cloudknot.image.builder import DockerBuilder
    from cloudknot.image.repository import DockerRepo

EDITED = "an edited Dockerfile"


class DockerImage:
    """The image of a function or script.

    Parameters
    ----------
    name : str, optional
        Default: ``<user>-default``.
    func : callable, optional
        The function. It travels by value.
    script_path : path, optional
        A command-line script in place of a function: an element of a map is what stands on its command line, and what
        it prints on standard output is the result.
    dir_name : path, optional
        Where to write the build context. What you edit there is what is built: the Dockerfile, the requirements, and
        files that you add. Without ``func`` and ``script_path``, a directory that was written before is read.
    base_image : str, optional
        Default: the slim image of this Python's minor version.
    github_installs : str or sequence of str
        Git repositories to install, pinned to the commit that they are at now.
    ignore_installed : bool
        Whether pip installs also what the base image has.
    pin_pip_versions : bool
        Whether to require the versions that are installed here (the default), or any.
    username : str
        The user that jobs run as. Default: ``"cloudknot-user"``.
    overwrite : bool
        Write the directory anew, also what was edited in it.
    requirements : sequence of str, optional
        pip requirement lines in place of those found.
    apt_packages : str or sequence of str
        Debian packages to install.
    dockerfile_lines : str or sequence of str
        Lines for the Dockerfile, run as root after the packages and before the requirements are installed.
    builder : DockerBuilder, optional
        Default: one of this machine's engine, on first use.

    Raises
    ------
    CloudknotInputError
        A choice, the function or the directory is not acceptable.
    """

    def __init__(
        self,
        name: str | None = None,
        func: Callable[..., object] | None = None,
        script_path: str | Path | None = None,
        dir_name: str | Path | None = None,
        base_image: str | None = None,
        github_installs: str | Sequence[str] = (),
        ignore_installed: bool = False,
        pin_pip_versions: bool = True,
        username: str | None = None,
        overwrite: bool = False,
        *,
        requirements: Sequence[str] | None = None,
        apt_packages: str | Sequence[str] = (),
        dockerfile_lines: str | Sequence[str] = (),
        builder: DockerBuilder | None = None,
    ) -> None:
        self._options = ImageOptions.make(
            name=name,
            func=func,
            script_path=script_path,
            dir_name=dir_name,
            base_image=base_image,
            github_installs=github_installs,
            ignore_installed=ignore_installed,
            pin_pip_versions=pin_pip_versions,
            username=username,
            overwrite=overwrite,
            requirements=requirements,
            apt_packages=apt_packages,
            dockerfile_lines=dockerfile_lines,
        )
        self._given_builder = builder
        self._program = _program(self._options)
        self._directory: Path | None = None
        self.images: list[dict[str, str]] = []
        self.repo_uri: str | None = None
        if self._options.dir_name is not None:
            self._directory = self._written(Path(self._options.dir_name).expanduser().absolute())
        else:
            _ = self._rendered

    def __repr__(self) -> str:
        return f"DockerImage(name={self.name!r}, tag={image_in(self).tag!r})"

    @property
    def name(self) -> str:
        """The image's name."""
        return self._options.name

    @property
    def build_path(self) -> Path:
        """The directory of the build context; a temporary one is made by asking, unless ``dir_name`` was given."""
        if self._directory is None:
            import tempfile

            self._directory = self._written(Path(tempfile.mkdtemp(prefix="cloudknot-")))
        return self._directory

    @property
    def docker_path(self) -> Path:
        """The Dockerfile."""
        return self.build_path / context.DOCKERFILE

    @property
    def req_path(self) -> Path:
        """The requirements that pip installs."""
        return self.build_path / context.REQUIREMENTS

    @property
    def script_path(self) -> Path:
        """The script; of a function, its source, which is there for the reader."""
        said = context.about(image_in(self).files)
        script = said.get("script")
        return self.build_path / (f"{context.MODULES}{script}" if script else context.SOURCE)

    @property
    def pip_imports(self) -> tuple[str, ...]:
        """Names that the program imports and installed packages provide; none are known of a directory alone."""
        return self._program.imports if self._program else ()

    @property
    def missing_imports(self) -> tuple[str, ...]:
        """Names that it imports and no installed package provides."""
        return self._program.missing if self._program else ()

    def build(
        self,
        tags: str | Sequence[str],
        image_name: str | None = None,
        nocache: bool = False,
        *,
        platform: str = "linux/amd64",
    ) -> None:
        """Build it on this machine's engine.

        Parameters
        ----------
        tags : str or sequence of str
        image_name : str, optional
            Default: ``cloudknot/<name>``, in lower case.
        nocache : bool
            Whether to run every step again.
        platform : str
            ``"linux/amd64"`` (the default) or ``"linux/arm64"``, as the machines have it that jobs will run on.

        Raises
        ------
        ImageError
            There is no engine, or a step failed.
        """
        from cloudknot.options.validators import DOCKER_TAGS

        first, *others = DOCKER_TAGS("tags", tags) or ("latest",)
        name = image_name or f"cloudknot/{self.name.lower()}"
        with self._builder as builder:
            builder.build(image_in(self, platform, nocache=nocache), f"{name}:{first}")
            for other in others:
                builder.tag(f"{name}:{first}", f"{name}:{other}")
        made = [{"name": name, "tag": tag} for tag in (first, *others)]
        self.images += [image for image in made if image not in self.images]

    def push(self, repo: DockerRepo | None = None, repo_uri: str | None = None) -> None:
        """Push what `build` made, with its tags.

        Parameters
        ----------
        repo : DockerRepo, optional
        repo_uri : str, optional
            A repository's address instead; the engine logs in there as Docker's own settings say.

        Raises
        ------
        CloudknotInputError
            Neither is given, or both.
        ImageError
            Nothing was built yet, there is no engine, or the registry refused.
        """
        from cloudknot.image.repository import login_to

        if (repo is None) == (repo_uri is None):
            raise CloudknotInputError("push takes a DockerRepo as repo=, or an address as repo_uri=: one of them.")
        if not self.images:
            raise ImageError("There is no image to push yet: call build first.")
        address = repo_uri if repo is None else repo.repo_uri
        assert address is not None
        login = login_to(repo) if repo is not None else None
        with self._builder as builder:
            for image in self.images:
                uri = f"{address}:{image['tag']}"
                builder.tag(f"{image['name']}:{image['tag']}", uri)
                builder.push(uri, login)
        self.repo_uri = address

    @cached_property
    def _builder(self) -> DockerBuilder:
        from cloudknot.image.builder import DockerBuilder

        return self._given_builder or DockerBuilder()

    @cached_property
    def _rendered(self) -> dict[str, bytes]:
        from cloudknot.image import git_pins

        assert self._program is not None
        options = self._options
        return render(
            self._program,
            base_image=options.base_image,
            username=options.username,
            github_installs=git_pins.pinned(options.github_installs),
            apt_packages=options.apt_packages,
            dockerfile_lines=options.dockerfile_lines,
            ignore_installed=options.ignore_installed,
        )

    def _written(self, target: Path) -> Path:
        if self._program is not None:
            directory.write(target, self._rendered, overwrite=self._options.overwrite)
        else:
            directory.check(target)
        return target


def docker_image_of(options: KnotOptions) -> DockerImage | None:
    """Return the image that a knot's choices ask for; None when they name no program.

    Raises
    ------
    CloudknotInputError
        ``docker_image`` is not one.
    """
    if options.docker_image is not None:
        if not isinstance(options.docker_image, DockerImage):
            raise CloudknotInputError(
                f"docker_image={options.docker_image!r} is not accepted. Give a cloudknot.DockerImage."
            )
        return options.docker_image
    if options.func is None and options.image_script_path is None and options.image_work_dir is None:
        return None
    return DockerImage(
        name=options.name,
        func=options.func,
        script_path=options.image_script_path,
        dir_name=options.image_work_dir,
        base_image=options.base_image,
        github_installs=options.image_github_installs,
        username=options.username,
        requirements=options.requirements,
        apt_packages=options.apt_packages,
        dockerfile_lines=options.dockerfile_lines,
    )


def image_in(
    docker_image: DockerImage, platform: str = "linux/amd64", *, nocache: bool = False, tags: Iterable[str] = ()
) -> Image:
    """Return what would be built now; of a directory, with the edits that are in it."""
    folder = docker_image._directory
    if folder is None:
        return image_of(docker_image._rendered, platform, nocache=nocache, tags=tags)
    files, executables = directory.read(folder), directory.executables(folder)
    image = image_of(files, platform, executables=executables, nocache=nocache, tags=tags)
    return dataclasses.replace(image, needs_engine=EDITED) if directory.edited(folder) else image


def program_in(docker_image: DockerImage) -> Program | None:
    """Return the program of an image; None when the image is known by its directory alone."""
    return docker_image._program


def _program(options: ImageOptions) -> Program | None:
    if options.script_path is not None:
        from cloudknot.program.script import make_script

        program = make_script(options.script_path, options.requirements)
    elif options.func is not None:
        more = options.base_image, options.github_installs, options.apt_packages, options.dockerfile_lines
        program = make_program(options.func, options.requirements, image_has_more=any(more))
    else:
        return None
    if options.pin_pip_versions or options.requirements is not None:
        return program
    return dataclasses.replace(program, requirements=tuple(map(without_pin, program.requirements)))
