"""Knot: the only orchestrator, and the only new object a person has to learn.

It runs the stages in turn and keeps what they made: program, image, resources, maps. It makes no AWS calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cloudknot.aws import Cloud
from cloudknot.aws.cloud import choose_cloud
from cloudknot.deploy.account.buckets import clouds_of
from cloudknot.deploy.account.clobber import Also, clobber_knot, clobber_shared
from cloudknot.deploy.knot_stack import JobDefinition, KnotResources, deploy_knot, find_knot
from cloudknot.deploy.pars import Pars, mark_clobbered
from cloudknot.deploy.plan import plan_knot
from cloudknot.deploy.prerequisites import make_prerequisites
from cloudknot.display.progress import progress_line
from cloudknot.display.stages import Stages
from cloudknot.errors import ResourceClobberedException, ResourceDoesNotExistException
from cloudknot.image.docker_image import DockerImage, docker_image_of, program_in
from cloudknot.image.repository import DockerRepo, repository_of
from cloudknot.options.choices import KnotOptions, MapOptions
from cloudknot.run.collect.map_future import MapFuture, empty_map
from cloudknot.run.jobs.history import discard_left_over, find_jobs, jobs_table
from cloudknot.run.jobs.job import BatchJob, started_job
from cloudknot.run.jobs.map_arguments import as_elements, job_ids_of
from cloudknot.run.submit.dependencies import Source
from cloudknot.run.submit.start_run import Target, start_run


class Knot:
    """A function of yours, made ready to run in the cloud.

    Making a Knot packs the function and what it needs into an image and makes what the cloud needs to run it. What
    exists and has not changed is used as it is. Without a program, the knot of that name is found again.

    Parameters
    ----------
    name : str, optional
        Up to 45 letters, digits and hyphens, a letter first. Default: ``<user>-default``.
    pars : Pars, optional
        Resources shared with other knots. Default: ``Pars()``, which all knots of the account and region share.
    pars_policies : str or sequence of str
        Managed policies, for example ``("AmazonS3FullAccess",)``, which jobs of every knot of the Pars get, until the
        Pars is clobbered. Not beside ``pars``, which has its own.
    docker_image : DockerImage, optional
        A prepared image, which several knots may share, in place of the choices that follow.
    base_image, func, image_script_path, image_work_dir, image_github_installs, username : optional
        See `DockerImage`, where they are called ``script_path``, ``dir_name`` and ``github_installs``; as are
        ``requirements``, ``apt_packages`` and ``dockerfile_lines``, the last two of which need a Docker engine.
    repo_name : str, optional
        The image repository. Default: the settings' (``"cloudknot"``).
    image_tags : str or sequence of str, optional
        Tags that the image gets besides its own, which is a digest of its content.
    no_image_cache : bool
        Build and push the image anew, also when it exists.
    job_def_vcpus, memory, n_gpus : int, optional
        What a child job has: vCPUs (1), MiB of memory (7,500), GPUs (0).
    retries : int, optional
        Attempts that a child job has when the function raises: 1 (the default) to 10.
    instance_types : str or sequence of str, optional
        Default: ``"optimal"``. ``min_vcpus``, ``desired_vcpus`` and ``max_vcpus`` (0, 8, 256) are how many of them
        there are; a minimum above 0 costs money while idle, and so does a desired number that is given, for minutes.
        ``"fargate"`` and ``"fargate-spot"`` need no machines.
    volume_size, image_id, ec2_key_pair : optional
        GiB of disk; or a machine image, which brings its own; and an SSH key pair, for the instances.
    bid_percentage : int, optional
        Use Spot instances, at most at this share of the on-demand price. Default: on demand.
    job_definition_name, compute_environment_name, job_queue_name : str, optional
        Default: ``<name>-cloudknot-job-definition`` and so on; ``priority`` of the queue is 1.
    aws_resource_tags : dict or list of dict, optional
        On every resource made. Default: Owner, Environment, Name.
    cloud : Cloud or {"aws", "local"}, optional
        Where to run. Default: ``CLOUDKNOT_CLOUD``, else AWS.
    timeout : int, optional
        Seconds that an attempt may take, 60 or more. Default: no limit.
    memory_growth : float, optional
        Run what ran out of memory again with so many times as much, up to 8 times the memory at first. This session
        submits that, so it must be alive then; later, `BatchJob.retry_failed` does it. Default: do not.

    Raises
    ------
    CloudknotInputError
        A choice or the function is not acceptable. Nothing was made.
    CredentialsError
        There are no AWS credentials. Nothing was made.
    ImageError, CannotCreateResourceException
        Something could not be made; the message says what and why.
    """

    def __init__(
        self,
        name: str | None = None,
        pars: Pars | None = None,
        pars_policies: str | Sequence[str] = (),
        docker_image: DockerImage | None = None,
        base_image: str | None = None,
        func: Callable[..., object] | None = None,
        image_script_path: str | Path | None = None,
        image_work_dir: str | Path | None = None,
        image_github_installs: str | Sequence[str] = (),
        username: str | None = None,
        repo_name: str | None = None,
        image_tags: str | Sequence[str] | None = None,
        no_image_cache: bool = False,
        job_definition_name: str | None = None,
        job_def_vcpus: int | None = None,
        memory: int | None = None,
        n_gpus: int | None = None,
        retries: int | None = None,
        compute_environment_name: str | None = None,
        instance_types: str | Sequence[str] | None = None,
        min_vcpus: int | None = None,
        max_vcpus: int | None = None,
        desired_vcpus: int | None = None,
        volume_size: int | None = None,
        image_id: str | None = None,
        ec2_key_pair: str | None = None,
        bid_percentage: int | None = None,
        job_queue_name: str | None = None,
        priority: int | None = None,
        aws_resource_tags: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        *,
        cloud: Cloud | str | None = None,
        timeout: int | None = None,
        requirements: Sequence[str] | None = None,
        apt_packages: str | Sequence[str] = (),
        dockerfile_lines: str | Sequence[str] = (),
        memory_growth: float | None = None,
    ) -> None:
        options = KnotOptions.make(
            name=name, pars_policies=pars_policies, docker_image=docker_image, base_image=base_image, func=func,
            image_script_path=image_script_path, image_work_dir=image_work_dir, username=username,
            image_github_installs=image_github_installs, repo_name=repo_name, image_tags=image_tags,
            no_image_cache=no_image_cache, job_definition_name=job_definition_name, job_def_vcpus=job_def_vcpus,
            memory=memory, n_gpus=n_gpus, retries=retries, compute_environment_name=compute_environment_name,
            instance_types=instance_types, min_vcpus=min_vcpus, max_vcpus=max_vcpus, desired_vcpus=desired_vcpus,
            volume_size=volume_size, image_id=image_id, ec2_key_pair=ec2_key_pair, bid_percentage=bid_percentage,
            job_queue_name=job_queue_name, priority=priority, aws_resource_tags=aws_resource_tags, timeout=timeout,
            requirements=requirements, apt_packages=apt_packages, dockerfile_lines=dockerfile_lines,
            memory_growth=memory_growth,
        )  # fmt: skip
        self._make(options, pars, cloud)

    def _make(self, options: KnotOptions, pars: Pars | None, cloud: Cloud | str | None) -> None:
        self._options, self._pars, self._clobbered = options, pars, False
        self._jobs: dict[str, BatchJob | None] = {}
        stages = Stages(options.name)
        with stages.stage("packing the function"):
            self._docker_image = docker_image_of(options)
        self._program = program_in(self._docker_image) if self._docker_image else None
        self._cloud = choose_cloud(cloud)
        image = self._docker_image
        self._resources = self._deploy(image, stages) if image else find_knot(self._cloud, options.name)
        self._cloud = self._cloud.in_bucket(self._resources.bucket)
        stages.ready()

    def _deploy(self, docker_image: DockerImage, stages: Stages) -> KnotResources:
        plan = plan_knot(self._cloud, self._options, docker_image, self._pars)
        with stages.stage("publishing its image, and making what knots share"):
            made = make_prerequisites(plan)
        self._pars = made.pars
        with stages.stage("making its queue, compute environment and job definition"):
            return deploy_knot(plan, made)

    def __repr__(self) -> str:
        return f"Knot(name={self.name!r})"

    @property
    def name(self) -> str:
        """The knot's name."""
        return self._options.name

    knot_name = name

    @property
    def region(self) -> str:
        """Where the knot runs."""
        return self._cloud.region

    @property
    def profile(self) -> str | None:
        """The AWS profile that it was made with."""
        return self._cloud.profile

    @property
    def pars(self) -> Pars:
        """What the knot shares with others."""
        if self._pars is None:
            self._pars = Pars(name=self._resources.pars_name, cloud=self._cloud)
        return self._pars

    @property
    def docker_image(self) -> DockerImage | None:
        """The image that it was made with; None when it was found by name, see `image_uri`."""
        return self._docker_image

    @property
    def image_uri(self) -> str:
        """Where the image of the next map is: registry, repository and tag."""
        return self._resources.image_uri

    @property
    def docker_repo(self) -> DockerRepo:
        """The repository of its images, made if there is none."""
        name = repository_of(self._resources.image_uri)
        return DockerRepo(name, self._options.aws_resource_tags, cloud=self._cloud)

    @property
    def job_definition(self) -> JobDefinition:
        """The job definition that the next map uses: ``(name, arn, output_bucket, retries)``."""
        made = self._resources
        return JobDefinition(made.job_definition_name, made.job_definition_arn, self._cloud.bucket, made.retries)

    @property
    def job_queue(self) -> str:
        """Name of the job queue."""
        return self._resources.job_queue_name

    @property
    def compute_environment(self) -> str:
        """Name of the compute environment."""
        return self._resources.compute_environment_name

    @property
    def stack_id(self) -> str:
        """Id of the stack that holds the knot's own resources."""
        return self._resources.stack_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags on the knot's resources."""
        return self._resources.tags

    @property
    def jobs(self) -> list[BatchJob]:
        """Every map of this knot that the cloud still holds, oldest first, those of other sessions too.

        What sessions have left that ended before they had submitted anything is deleted when it is a week old.
        """
        found = find_jobs(clouds_of(self._cloud, self._resources.job_definition_name), self.name, self._jobs)
        discard_left_over(self._cloud, self.name, self._jobs)
        return found

    @property
    def job_ids(self) -> list[str]:
        """Their Batch job ids."""
        return [job.job_id for job in self.jobs]

    def map(
        self,
        iterdata: Iterable[object] | BatchJob,
        env_vars: Mapping[str, str] | Sequence[Mapping[str, str]] | None = None,
        max_threads: int = 64,
        starmap: bool = False,
        job_type: str | None = None,
        *,
        chunksize: int | str | None = None,
        depends_on: MapFuture | BatchJob | str | Sequence[MapFuture | BatchJob | str] | None = None,
        progress: bool | None = None,
        kwargs: Mapping[str, object] | None = None,
        memory: int | None = None,
        vcpus: int | None = None,
        timeout: int | None = None,
        retries: int | None = None,
    ) -> MapFuture:
        """Run the function on each element, in the cloud.

        Parameters
        ----------
        iterdata : iterable
            One element for each call. Any iterable: it is read once and not held in memory. Or another map's future or
            job, of any knot: its results are the elements, and go from job to job without passing through here.
        env_vars : dict, or list of ``{"name": ..., "value": ...}``, optional
            Environment variables of the jobs.
        max_threads : int
            Results that are fetched at the same time.
        starmap : bool
            Whether each element is a sequence of arguments: ``func(*element)``.
        job_type : {"array", "independent"}, optional
            One array job (the default), or one Batch job for each element.
        chunksize : int or "auto", optional
            Elements of one child job. Default: as the other map; 1 up to 10,000 elements, then 500 children or more.
            ``"auto"``: children of one to four minutes, by earlier maps of the knot; else divided over the vCPUs.
        depends_on : MapFuture, BatchJob, str, or a sequence of them, optional
            Jobs, at most 20, that must succeed before this one starts.
        progress : bool, optional
            Show a line of progress. Default: on a terminal and in a notebook; ``CLOUDKNOT_PROGRESS`` says otherwise.
        kwargs : dict, optional
            Keyword arguments of every call. They are uploaded once and read once by each child job, however large.
        memory, vcpus, timeout, retries : int, optional
            Of this map's child jobs: MiB, vCPUs, seconds and number of attempts. Default: the knot's.

        Returns
        -------
        MapFuture
            The future of the list of results, and a sequence of the elements' own futures.

        Raises
        ------
        CloudknotInputError
            An argument or an element is not acceptable. Nothing was submitted.
        """
        options = MapOptions.of_map(
            env_vars=env_vars, max_threads=max_threads, starmap=starmap, job_type=job_type, chunksize=chunksize,
            progress=progress, kwargs=kwargs, memory=memory, vcpus=vcpus, timeout=timeout, retries=retries,
        )  # fmt: skip
        self._refuse_if_clobbered()
        return self._submit(as_elements(iterdata), options, job_ids_of(depends_on or ()))

    @property
    def _target(self) -> Target:
        """Where maps are submitted to."""
        return Target.of(self.name, self._program, self._resources, self._options.memory_growth)

    def _gather(self, source: Source, options: MapOptions) -> MapFuture:
        """Call the knot's function once, with all results of another knot's map: see `BatchJob.reduce`."""
        self._refuse_if_clobbered()
        return self._submit(source, options)

    def _submit(
        self, elements: Iterable[object] | Source, options: MapOptions, waits_for: Sequence[str] = ()
    ) -> MapFuture:
        started = start_run(self._cloud, self._target, elements, self._program, options, waits_for)
        if started is None:
            return empty_map()
        job = started_job(self._cloud, started, options.max_threads, self._program, self._target)
        self._jobs[job.keys.run_id] = job
        return job.future(progress_line(self.name, job.manifest.count, options.progress))

    def view_jobs(self) -> None:
        """Print a table of the knot's jobs: Job ID, Name, Status."""
        print(jobs_table(self._cloud, self.jobs))

    def clobber(
        self,
        clobber_pars: bool = False,
        clobber_repo: bool = False,
        clobber_image: bool = False,
        *,
        clobber_results: bool = False,
    ) -> None:
        """End the knot's jobs and delete what was made for it.

        Can be repeated: after an error or an interruption, or to delete more than at first.

        Parameters
        ----------
        clobber_pars, clobber_repo : bool
            Also delete what it shares with other knots: its Pars, which are kept with an error while another knot uses
            them; the image repository, with all images in it. While another knot uses that one, nothing is deleted.
        clobber_image : bool
            Also delete its images from the repository, but for those that another knot uses.
        clobber_results : bool
            Also delete the inputs and results of all its maps, which stay in S3 otherwise.

        Raises
        ------
        CannotDeleteResourceException
            Something could not be deleted; the message says what and why, and what to do.
        ResourceClobberedException
            The knot was clobbered before, and there is another one of its name by now, which is left as it is.
        """
        if self.clobbered:
            if not (clobber_pars or clobber_repo or clobber_image or clobber_results):
                return
            self._refuse_if_made_anew()
        image_uri = self._resources.image_uri
        also = Also(repo=clobber_repo, image=clobber_image, results=clobber_results, image_uri=image_uri)
        clobber_knot(self._cloud, self.name, also)
        self._clobbered = True
        if clobber_pars:
            clobber_shared(self._cloud, self.name, self._resources.pars_name)
            if self._pars is not None:
                mark_clobbered(self._pars)

    @property
    def clobbered(self) -> bool:
        """Whether `clobber` has deleted it."""
        return self._clobbered

    def _refuse_if_made_anew(self) -> None:
        try:
            find_knot(self._cloud, self.name)
        except ResourceDoesNotExistException:
            return
        raise ResourceClobberedException(f"It was made anew since: Knot(name={self.name!r}).clobber() is for that.")

    def _refuse_if_clobbered(self) -> None:
        if self.clobbered:
            anew = f"Knot(name={self.name!r}, func=...) makes it anew; results of its maps are still in its jobs."
            raise ResourceClobberedException(f"The knot {self.name!r} was clobbered and cannot be used. {anew}")
