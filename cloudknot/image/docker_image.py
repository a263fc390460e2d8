"""DockerImage: the public face of an image. It joins rendering, the directory on disk, and the Docker engine.

A `Knot` makes a `DockerImage` for itself unless it gets one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from cloudknot.aws.images.image_store import Image
from cloudknot.errors import ImageError, ResourceClobberedException, refuse
from cloudknot.image import context, directory
from cloudknot.image.context import EDITED
from cloudknot.image.render import image_of, render
from cloudknot.options import streams
from cloudknot.options.choices import ImageOptions, KnotOptions
from cloudknot.options.public import public
from cloudknot.program.packages.resolve import resolve as resolve_with_uv
from cloudknot.program.packages.target import InstallTarget
from cloudknot.program.program import Program, make_program

if TYPE_CHECKING:
    from cloudknot.aws.images.ecr import RegistryLogin
    from cloudknot.image.engine.builder import DockerBuilder
    from cloudknot.image.repository import DockerRepo
    from cloudknot.program.packages.lock import Lock

DEFAULT_PLATFORM = "linux/amd64"


@public
class DockerImage:
    """The Docker image of a function or script, to inspect, edit, build and share.

    Creating the object renders the build context. It does not build the image: `build` does, or a `Knot` that gets the
    object as ``docker_image=``.

    Parameters
    ----------
    name : str, optional
        The image's name. Default: ``<user>-default``.
    func : callable, optional
        The function to run. It travels by value, so it may come from a notebook.
    script_path : path, optional
        A command-line script to run in place of a function. Each element of a map becomes the script's command-line
        arguments, and the text on its standard output becomes the result.
    dir_name : path, optional
        Directory for the build context. You may edit the Dockerfile and the requirements there and add files: the
        image is built from the edited directory. ``pylock.toml``, ``requirements.lock`` and ``wheels/`` are written
        anew from the requirements. Without ``func`` and ``script_path``, an existing build context is read from it.
        Default: no directory, until `build_path` is read.
    base_image : str, optional
        The image to build on. Default: the slim image of this Python's minor version, such as
        ``"python:3.11-slim"``.
    github_installs : str or sequence of str, default ()
        Git repositories to install. Each is pinned to its current commit, and its wheel is built on this machine.
    ignore_installed : bool, default False
        Has no effect: an environment gets all locked packages, whatever the base image has.
    pin_pip_versions : bool, default True
        Whether to require the versions that are installed on this machine, or accept any version.
    username : str, optional
        The user that jobs run as. Default: ``"cloudknot-user"``.
    overwrite : bool, default False
        Replace the files that you edited in ``dir_name``.
    requirements : sequence of str, str or path, optional
        pip requirement lines; or the path of a requirements file, ``pyproject.toml``, ``uv.lock``, ``pylock.toml`` or
        ``environment.yml``. Default: the packages that the program imports.
    environment : {"imports", "all"}, default "imports"
        Without ``requirements``: whether jobs get the packages that the program imports, or all packages that are
        installed here.
    apt_packages : str or sequence of str, default ()
        Debian packages to install.
    dockerfile_lines : str or sequence of str, default ()
        Lines for the Dockerfile. They run as root, after the Debian packages and before the requirements are
        installed.
    builder : DockerBuilder, optional
        Client of the Docker engine. Default: the engine of this machine, from the first use on.

    Raises
    ------
    CloudknotInputError
        An option is not valid, the function cannot be pickled, or ``dir_name`` cannot be used.
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
        requirements: Sequence[str] | str | PathLike[str] | None = None,
        environment: str | None = None,
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
            environment=environment,
            apt_packages=apt_packages,
            dockerfile_lines=dockerfile_lines,
        )
        self._given_builder = builder
        self._program = _program(self._options)
        # Stays None until `build_path` is read. Without a directory, the image is built from the rendered files.
        self._directory: Path | None = None
        self.images: list[dict[str, str]] = []
        self.repo_uri: str | None = None
        self._clobbered = False
        if self._options.dir_name is not None:
            self._directory = self._written(Path(self._options.dir_name).expanduser().absolute())
            image_in(self)
        else:
            # Render at once, so that an invalid option is refused here and not in a later build.
            _ = self._rendered

    def __repr__(self) -> str:
        return f"DockerImage(name={self.name!r})"

    @property
    def name(self) -> str:
        """The image's name."""
        return self._options.name

    @property
    def func(self) -> Callable[..., object] | None:
        """The function that the image runs; None for a script or a directory."""
        return self._options.func

    @property
    def username(self) -> str:
        """The user that jobs run as."""
        return self._options.username

    @property
    def github_installs(self) -> tuple[str, ...]:
        """The git repositories to install."""
        return self._options.github_installs

    @property
    def clobbered(self) -> bool:
        """Whether `clobber` has deleted the image from this machine."""
        return self._clobbered

    @property
    def build_path(self) -> Path:
        """The directory of the build context. Without ``dir_name``, a temporary one is written on first use."""
        check_usable(self)
        if self._directory is None:
            import tempfile

            self._directory = self._written(Path(tempfile.mkdtemp(prefix="cloudknot-")))
            image_in(self)
        return self._directory

    @property
    def docker_path(self) -> Path:
        """The path of the Dockerfile."""
        return self.build_path / context.DOCKERFILE

    @property
    def req_path(self) -> Path:
        """The path of the requirements file that pip installs."""
        return self.build_path / context.REQUIREMENTS

    @property
    def script_path(self) -> Path:
        """The path of the script, or of the function's source code.

        The source code is there for readers only: jobs load the function from its pickle.
        """
        script = context.program_info(image_in(self).files).get("script")
        return self.build_path / (f"{context.MODULES}{script}" if script else context.SOURCE)

    @property
    def pip_imports(self) -> tuple[str, ...]:
        """The imported names that packages installed here provide; empty without a function or script."""
        return self._program.imports if self._program else ()

    @property
    def missing_imports(self) -> tuple[str, ...]:
        """The imported names that no package installed here provides; empty without a function or script."""
        return self._program.missing if self._program else ()

    def build(
        self,
        tags: str | Sequence[str],
        image_name: str | None = None,
        nocache: bool = False,
        *,
        platform: str = DEFAULT_PLATFORM,
    ) -> None:
        """Build the image with the Docker engine of this machine.

        Parameters
        ----------
        tags : str or sequence of str
            The tags of the image, for example ``"v1"``.
        image_name : str, optional
            Default: ``cloudknot/<name>``, in lower case.
        nocache : bool, default False
            Whether to run every build step again.
        platform : {"linux/amd64", "linux/arm64"}, default "linux/amd64"
            The platform of the machines that will run the jobs. Graviton instances need ``"linux/arm64"``.

        Raises
        ------
        CloudknotInputError
            A tag or the platform is not valid.
        ImageError
            No Docker engine answers, a build step failed, or the image cannot run the program.
        """
        from cloudknot.options.validators import DOCKER_TAGS, aws_name

        check_usable(self)
        first, *more_tags = DOCKER_TAGS("tags", tags) or ("latest",)
        name = image_name or f"cloudknot/{aws_name(self.name).lower()}"
        with self._builder as builder:
            builder.build(image_in(self, platform, nocache=nocache), f"{name}:{first}")
            for tag in more_tags:
                builder.tag(f"{name}:{first}", f"{name}:{tag}")
        built = [{"name": name, "tag": tag} for tag in (first, *more_tags)]
        self.images += [image for image in built if image not in self.images]

    def push(self, repo: DockerRepo | None = None, repo_uri: str | None = None) -> None:
        """Push every image that `build` has built, under its tags.

        Pass either ``repo`` or ``repo_uri``.

        Parameters
        ----------
        repo : DockerRepo, optional
            A repository on AWS. cloudknot logs in to it.
        repo_uri : str, optional
            The address of any other repository. The engine logs in with Docker's own settings (``docker login``).

        Raises
        ------
        CloudknotInputError
            Both ``repo`` and ``repo_uri`` are given, or neither.
        ImageError
            No image was built yet, no Docker engine answers, or the registry refused the push.
        """
        from cloudknot.image.repository import login_to

        if (repo is None) == (repo_uri is None):
            refuse(
                problem=f"push needs either repo= or repo_uri=, and got {'neither' if repo is None else 'both'}.",
                fix="Pass for example repo=cloudknot.DockerRepo('name').",
            )
        check_usable(self)
        if not self.images:
            raise ImageError(
                "There is no image to push, because none was built yet. Call image.build('latest') first."
            )
        address = repo_uri if repo is None else repo.repo_uri
        assert address is not None
        login = login_to(repo) if repo is not None else None
        with self._builder as builder:
            for image in self.images:
                uri = f"{address}:{image['tag']}"
                builder.tag(f"{image['name']}:{image['tag']}", uri)
                builder.push(uri, login)
        self.repo_uri = address

    def clobber(self) -> None:
        """Delete the image from this machine: from the Docker engine, and the files of its build context.

        Images in a repository stay, because knots may use them: see `DockerRepo.clobber` and `Knot.clobber`. Files
        that you have edited or added in ``dir_name`` stay, too, and a log line names them. Does nothing the second
        time.

        Raises
        ------
        ImageError
            The Docker engine does not answer, or a container uses the image.
        """
        if self.images:
            addresses = [self.repo_uri] if self.repo_uri else []
            with self._builder as builder:
                for image in self.images:
                    for name in (image["name"], *addresses):
                        builder.remove(f"{name}:{image['tag']}")
        if self._directory is not None and (kept := directory.remove(self._directory)):
            streams.logger.warning(
                "Your files in the build context %s were kept: %s.", self._directory, ", ".join(kept)
            )
        self.images, self._directory, self._clobbered = [], None, True

    @cached_property
    def _builder(self) -> DockerBuilder:
        from cloudknot.image.engine.builder import DockerBuilder

        return self._given_builder or DockerBuilder()

    # Cached, because a second rendering could pin a newer commit and give the image another tag.
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
        )

    def _written(self, target: Path) -> Path:
        if self._program is not None:
            directory.write(target, self._rendered, overwrite=self._options.overwrite)
        else:
            directory.check(target)
        return target


def docker_image_of(options: KnotOptions) -> DockerImage | None:
    """Return the image that a knot's options describe; None when they name no program.

    Raises
    ------
    CloudknotInputError
        ``docker_image`` is not a `DockerImage`.
    """
    if options.docker_image is not None:
        if not isinstance(options.docker_image, DockerImage):
            refuse(
                problem=f"docker_image={options.docker_image!r} is not a DockerImage.",
                fix="Pass for example docker_image=cloudknot.DockerImage(func=...).",
            )
        check_usable(options.docker_image)
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
        environment=options.environment,
        apt_packages=options.apt_packages,
        dockerfile_lines=options.dockerfile_lines,
    )


def check_usable(docker_image: DockerImage) -> None:
    """Raise `ResourceClobberedException` if the image was clobbered."""
    if docker_image.clobbered:
        raise ResourceClobberedException(
            f"The DockerImage {docker_image.name!r} was clobbered and can no longer be used. "
            f"Create it again: DockerImage(name={docker_image.name!r}, func=...).",
            resource_id=docker_image.name,
        )


# Functions in place of methods, so that completion in a notebook shows only the documented names of a DockerImage.
def image_in(
    docker_image: DockerImage,
    platform: str = DEFAULT_PLATFORM,
    *,
    nocache: bool = False,
    tags: Iterable[str] = (),
    target: InstallTarget | None = None,
    resolve: Callable[..., Lock] = resolve_with_uv,
) -> Image:
    """Return the image as it would be built now, with the edits in its directory.

    ``target`` is what its packages are chosen for. Default: the platform, with the program's Python.
    """
    describe = partial(image_of, platform=platform, nocache=nocache, tags=tags, target=target, resolve=resolve)
    folder = docker_image._directory
    if folder is None:
        return describe(docker_image._rendered)
    image = describe(directory.read(folder), executables=directory.executables(folder))
    # For `docker build` by hand, which builds for the machines that most knots use.
    if platform == DEFAULT_PLATFORM and (target is None or target.platform == platform):
        directory.write_lock(folder, image.files)
    # A virtual environment of the embedded cloud can follow edited requirements, but not an edited Dockerfile.
    return dataclasses.replace(image, needs_engine=EDITED) if directory.edited(folder) else image


def target_in(docker_image: DockerImage, platform: str, login: Callable[[], RegistryLogin]) -> InstallTarget:
    """Return the target of an image for a registry: packages must fit the C library of its base image.

    ``login`` returns the login for the user's own registry, which may have the base image.
    """
    folder = docker_image._directory
    files = docker_image._rendered if folder is None else directory.read(folder)
    default = InstallTarget(platform, context.program_info(files)["python"])
    if folder is None and docker_image._options.base_image is None:
        return default
    from cloudknot.image.assembly.base.libc import libc_of

    return dataclasses.replace(default, libc=libc_of(context.base_of(files), platform, login))


def program_in(docker_image: DockerImage) -> Program | None:
    """Return the program of an image; None for an image that was made from a directory alone."""
    return docker_image._program


def _program(options: ImageOptions) -> Program | None:
    from cloudknot.program.requirements import from_user, without_pin

    requirements = None
    if options.requirements is not None:
        requirements = from_user(options.requirements, options.apt_packages).lines
    if options.script_path is not None:
        from cloudknot.program.script import make_script

        program = make_script(options.script_path, requirements)
    elif options.func is not None:
        # Any of these may provide a package that is not installed here, so a missing import is only a warning.
        sources = options.base_image, options.github_installs, options.apt_packages, options.dockerfile_lines
        program = make_program(options.func, requirements, image_has_more=any(sources))
    else:
        return None
    if options.environment == "all":
        program = _with_everything_here(program)
    if options.pin_pip_versions or options.requirements is not None:
        return program
    return dataclasses.replace(program, requirements=tuple(map(without_pin, program.requirements)))


def _with_everything_here(program: Program) -> Program:
    from cloudknot.program.requirements import Requirements, with_everything_here

    needed = with_everything_here(Requirements(program.requirements, local=program.local_packages))
    return dataclasses.replace(program, requirements=needed.lines, local_packages=needed.local)
