"""`Knot`, the class that most users start with. It calls the stages in turn: program, image, resources, maps.

It holds the results of the stages and makes no AWS calls itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from cloudknot.aws import Cloud
from cloudknot.aws.cloud import choose_cloud
from cloudknot.aws.images.ecr import repository_of
from cloudknot.deploy.account.buckets import clouds_of
from cloudknot.deploy.account.clobber import Extras, UsedPars, clobber_knot, clobber_shared
from cloudknot.deploy.knot_stack import JobDefinition, KnotResources, deploy_knot, find_knot
from cloudknot.deploy.pars import Pars, check_pars, mark_clobbered
from cloudknot.deploy.plan import plan_knot
from cloudknot.deploy.prerequisites import make_prerequisites
from cloudknot.display.progress import progress_line
from cloudknot.display.stages import Stages
from cloudknot.display.summaries import Summary, safely
from cloudknot.errors import ResourceClobberedException, refuse
from cloudknot.image.docker_image import DockerImage, docker_image_of, program_in
from cloudknot.image.repository import DockerRepo
from cloudknot.options import streams
from cloudknot.options.choices import DEFAULT_TIMEOUT, NO_TIMEOUT, KnotOptions, MapOptions, vcpus_of
from cloudknot.options.public import public
from cloudknot.program.program import Program
from cloudknot.run.collect.map_future import MapFuture, empty_map
from cloudknot.run.jobs.history import discard_leftovers, find_jobs, jobs_table
from cloudknot.run.jobs.job import BatchJob, started_job
from cloudknot.run.jobs.job_list import JobList
from cloudknot.run.jobs.map_arguments import as_elements, job_ids_of
from cloudknot.run.submit.dependencies import Source
from cloudknot.run.submit.start_run import Target, start_run


@public
class Knot:
    """A Python function, prepared to run on AWS Batch or on this machine.

    Creating a Knot puts the function with its modules and requirements into an image, and creates the AWS resources
    that run it. Existing resources that are up to date are reused. Without a function, script or image, the Knot
    connects to the existing knot of that name.

    Parameters
    ----------
    name : str, optional
        Up to 55 letters, digits, hyphens and underscores, beginning with a letter. Names in AWS have hyphens in place
        of underscores. Default: ``<user>-default``.
    pars : Pars, optional
        The resources that several knots share. Default: ``Pars()``, for all knots of the account and region.
    pars_policies : str or sequence of str
        IAM policies that jobs need, for example ``"AmazonS3FullAccess"``. Jobs of all knots of the Pars get them,
        until the Pars is clobbered. Cannot be combined with ``pars``, which has policies of its own.
    docker_image : DockerImage, optional
        A prepared image, which several knots can share. It replaces the parameters from ``base_image`` to
        ``username``, and also ``requirements``, ``environment``, ``apt_packages`` and ``dockerfile_lines``.
    base_image : str, optional
        The image to build on. Default: ``python:3.X-slim`` with the Python version of this session.
    func : callable, optional
        The function that `map` calls for each element.
    image_script_path : str or Path, optional
        A script to run in place of ``func``. `DockerImage` calls it ``script_path``.
    image_work_dir : str or Path, optional
        A directory for the build context, to read and edit. `DockerImage` calls it ``dir_name``.
    image_github_installs : str or sequence of str
        Git repositories to install in the image. `DockerImage` calls them ``github_installs``.
    username : str, optional
        The Linux user that jobs run as.
    repo_name : str, optional
        The image repository. Default: that of the settings, else ``"cloudknot"``.
    image_tags : str or sequence of str, optional
        Additional tags for the image. Its main tag is the digest of its content.
    no_image_cache : bool
        Build and push the image even if it exists.
    job_def_vcpus, memory, n_gpus : int, optional
        The vCPUs, MiB of memory and GPUs of each child job. Default: 1 vCPU, 1,900 MiB for each vCPU, and no GPU. On
        Fargate, the next size. With GPUs, 7,500 MiB. ``memory`` may have a unit: ``"8 GiB"``, ``"8GB"`` (the same) or
        ``"512 MiB"``.
    retries : int, optional
        Attempts of each child job if the function raises or its process dies: 1 (the default) to 10.
    instance_types : str or sequence of str, optional
        EC2 instance types or families, for example ``["c6i", "m6i.large"]``. Default: ``"optimal"``, where Batch
        chooses. ``"fargate"`` and ``"fargate-spot"`` run jobs without EC2 instances.
    min_vcpus, max_vcpus : int, optional
        Limits for the vCPUs of all instances together. Default: 0 and 256. A minimum above 0 costs money even while
        idle.
    desired_vcpus : int, optional
        The vCPUs at the start, 8 by default. AWS starts them before any job, and bills them for some minutes, only if
        you pass a number.
    volume_size, image_id, ec2_key_pair : optional
        For the instances: GiB of disk, the id of a machine image, and the name of an SSH key pair. A machine image has
        its own disk size, so it cannot be combined with ``volume_size``.
    bid_percentage : int, optional
        Use Spot instances, and pay up to this percentage of the on-demand price. Default: on-demand instances.
    job_definition_name, job_queue_name, compute_environment_name : str, optional
        Default: ``<name>-cloudknot-job-definition``, ``-job-queue`` and ``-compute-environment``.
    priority : int, optional
        The priority of the job queue. Default: 1.
    aws_resource_tags : dict or list of dict, optional
        Tags for all created resources. Default: Owner, Environment and Name.
    cloud : Cloud or {"aws", "local"}, optional
        The cloud to run in. Default: ``CLOUDKNOT_CLOUD``, else AWS.
    timeout : int, optional
        The longest duration of an attempt in seconds, 60 or more. Default: 604,800, a week. None: no limit, except
        that AWS may end jobs on Fargate after 14 days.
    requirements : sequence of str, str or path, optional
        Requirements in pip's format; or a requirements file, ``pyproject.toml``, ``uv.lock``, ``pylock.toml`` or
        ``environment.yml``. Default: those that the function imports.
    environment : {"imports", "all"}, optional
        Without ``requirements``: whether jobs get the packages that the function imports (the default), or all
        packages that are installed here.
    apt_packages, dockerfile_lines : str or sequence of str
        Debian packages, and lines of a Dockerfile, for the image. Both need a Docker engine on this machine, or the
        permission for AWS CodeBuild.
    memory_growth : float, optional
        Run elements that ran out of memory again, each time with the memory multiplied by this factor, up to 8 times
        the first amount. Only the session that called `map` does so, while it is alive. In a later session,
        call `BatchJob.retry_failed`. Default: no growth.
    vcpus : int, optional
        Another name of ``job_def_vcpus``, the one that `map` uses.
    template : str or Path, optional
        A CloudFormation template of your own, made from the output of ``cloudknot template knot``. Default: that of
        the existing knot, else cloudknot's.
    compute : Knot or str, optional
        Another knot, or its name: use its job queue and its machines. AWS Batch allows 50 queues in a region. An
        existing knot keeps its queue. Default: a queue and machines of its own.

    Raises
    ------
    CloudknotInputError
        A parameter or the function is invalid. Nothing was created.
    CredentialsError
        No AWS credentials were found. Nothing was created.
    ImageError, CannotCreateResourceException
        The image or a resource could not be created. The message names it and the cause.
    """

    # The parameters before the star keep the order of the first cloudknot, so old scripts still run.
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
        memory: int | str | None = None,
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
        timeout: int | None = DEFAULT_TIMEOUT,
        requirements: Sequence[str] | str | PathLike[str] | None = None,
        environment: str | None = None,
        apt_packages: str | Sequence[str] = (),
        dockerfile_lines: str | Sequence[str] = (),
        memory_growth: float | None = None,
        vcpus: int | None = None,
        template: str | PathLike[str] | None = None,
        compute: Knot | str | None = None,
    ) -> None:
        check_pars(pars)
        options = KnotOptions.make(
            name=name, pars_policies=pars_policies, docker_image=docker_image, base_image=base_image, func=func,
            image_script_path=image_script_path, image_work_dir=image_work_dir, username=username,
            image_github_installs=image_github_installs, repo_name=repo_name, image_tags=image_tags,
            no_image_cache=no_image_cache, job_definition_name=job_definition_name,
            job_def_vcpus=vcpus_of(job_def_vcpus, vcpus),
            memory=memory, n_gpus=n_gpus, retries=retries, compute_environment_name=compute_environment_name,
            instance_types=instance_types, min_vcpus=min_vcpus, max_vcpus=max_vcpus, desired_vcpus=desired_vcpus,
            volume_size=volume_size, image_id=image_id, ec2_key_pair=ec2_key_pair, bid_percentage=bid_percentage,
            job_queue_name=job_queue_name, priority=priority, aws_resource_tags=aws_resource_tags,
            timeout=NO_TIMEOUT if timeout is None else timeout, requirements=requirements, environment=environment,
            apt_packages=apt_packages, dockerfile_lines=dockerfile_lines, memory_growth=memory_growth,
            template=template, compute=compute.name if isinstance(compute, Knot) else compute,
        )  # fmt: skip
        self._prepare(options, pars, _cloud_beside(compute, cloud) if isinstance(compute, Knot) else cloud)

    def _prepare(self, options: KnotOptions, pars: Pars | None, cloud: Cloud | str | None) -> None:
        self._options, self._pars, self._clobbered = options, pars, False
        # The Pars that the knot had when it was clobbered. A new one may have its name by now.
        self._former_pars = UsedPars()
        self._jobs: dict[str, BatchJob | None] = {}
        self._maps = 0
        stages = Stages(options.name)
        self._cloud = self._home = choose_cloud(cloud)
        # The function is pickled before the first call, so an invalid function raises before anything is created.
        with self._cloud._expected(), stages.stage("packing the function"):
            self._docker_image = docker_image_of(options)
        self._program = program_in(self._docker_image) if self._docker_image else None
        image = self._docker_image
        if image:
            self._resources = self._deploy(image, stages)
        else:
            self._resources = find_knot(self._cloud, options.name, options.spelling)
        # The bucket belongs to the knot, not to the session. With other settings, a session would find no jobs, and
        # its maps would store inputs where the jobs may not read.
        self._cloud = self._cloud.in_bucket(self._resources.bucket, self._resources.bucket_owner)
        stages.ready()

    def _deploy(self, docker_image: DockerImage, stages: Stages) -> KnotResources:
        # The plan reads each resource once, and the stages act on it without reading again. So an unchanged knot costs
        # one call for each resource, and impossible choices raise before anything is created.
        plan = plan_knot(self._cloud, self._options, docker_image, self._pars)
        with stages.stage("publishing the image and creating shared resources"):
            prerequisites = make_prerequisites(plan)
        self._pars = prerequisites.pars
        with stages.stage("creating the queue, compute environment and job definition"):
            return deploy_knot(plan, prerequisites)

    def __repr__(self) -> str:
        return safely(lambda: self._summary().line(), "Knot")

    def _repr_html_(self) -> str:
        return safely(lambda: self._summary().html(), "Knot")

    def _summary(self) -> Summary:
        """Return the facts that this object has. It makes no request, since a debugger may ask for them."""
        resources: KnotResources | None = getattr(self, "_resources", None)
        function = self._program.name if self._program else ""
        state = "not created" if resources is None else "clobbered" if self._clobbered else "ready"
        if resources is None or self._clobbered:
            return Summary("Knot", self.name, state)
        place = f"AWS {self.region}" if self._cloud.has_regions else "the embedded cloud"
        details = (("up to", f"{resources.max_vcpus:,} vCPUs"), ("queue", resources.job_queue_name))
        runs = f"{state} on {place}, runs {function}" if function else f"{state} on {place}"
        return Summary("Knot", self.name, runs, details=details)

    @property
    def name(self) -> str:
        """The knot's name."""
        return self._options.name

    # The attribute's name in the first cloudknot.
    knot_name = name

    @property
    def cloud(self) -> Cloud:
        """The cloud of the knot. ``knot.cloud.client("s3")`` makes calls with the same credentials and region."""
        return self._cloud

    @property
    def region(self) -> str:
        """The AWS region of the knot."""
        return self._cloud.region

    @property
    def profile(self) -> str | None:
        """The AWS profile of the knot's calls; None if boto3 finds the credentials itself."""
        return self._cloud.profile

    @property
    def pars(self) -> Pars:
        """The resources that the knot shares with other knots."""
        # Pars() makes AWS calls, so a knot found by name creates the object only when it is read.
        if self._pars is None:
            self._pars = Pars(name=self._resources.pars_name, cloud=self._cloud)
        return self._pars

    @property
    def docker_image(self) -> DockerImage | None:
        """The image that the knot was created with. None for a knot found by name; see `image_uri`."""
        return self._docker_image

    @property
    def image_uri(self) -> str:
        """The address of the image of the next map: registry, repository and tag."""
        return self._resources.image_uri

    @property
    def docker_repo(self) -> DockerRepo:
        """The repository of the knot's images, created if it does not exist."""
        name = repository_of(self._resources.image_uri)
        return DockerRepo(name, self._options.aws_resource_tags, cloud=self._cloud)

    @property
    def job_definition(self) -> JobDefinition:
        """The job definition that the next map uses: ``(name, arn, output_bucket, retries)``."""
        resources = self._resources
        return JobDefinition(
            resources.job_definition_name, resources.job_definition_arn, self._cloud.bucket, resources.retries
        )

    @property
    def job_queue(self) -> str:
        """The name of the job queue."""
        return self._resources.job_queue_name

    @property
    def compute_environment(self) -> str:
        """The name of the compute environment."""
        return self._resources.compute_environment_name

    @property
    def compute(self) -> str | None:
        """The name of the knot whose queue and machines this knot uses; None for its own."""
        return self._resources.compute or None

    @property
    def job_role(self) -> str:
        """ARN of the role of the knot's jobs: its own, or in a knot from an earlier version that of its Pars."""
        return self._resources.job_role

    @property
    def stack_id(self) -> str:
        """The id of the CloudFormation stack with the knot's own resources."""
        return self._resources.stack_id

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags on the knot's resources."""
        return self._resources.tags

    @property
    def jobs(self) -> list[BatchJob]:
        """All maps of this knot that the cloud still holds, from all sessions, the oldest first.

        The list is shown as a table.

        Reading this property also deletes the stored inputs of maps whose session ended before it submitted them,
        after a week.
        """
        # The job definitions name the buckets of earlier maps, too: a knot can move to another bucket.
        jobs = find_jobs(clouds_of(self._cloud, self._resources.job_definition_name), self.name, self._jobs)
        discard_leftovers(self._cloud, self.name, self._jobs)
        return JobList(jobs)

    @property
    def job_ids(self) -> list[str]:
        """The Batch job ids of `jobs`."""
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
        memory: int | str | None = None,
        vcpus: int | None = None,
        timeout: int | None = None,
        retries: int | None = None,
    ) -> MapFuture:
        """Submit a job that calls the function for each element, and return its future.

        Parameters
        ----------
        iterdata : iterable, MapFuture or BatchJob
            The elements, one for each call. An iterable is read once and not held in memory. The results of another
            map, of any knot, go from job to job without passing through this session.
        env_vars : dict, or list of ``{"name": ..., "value": ...}``, optional
            Environment variables of the jobs.
        max_threads : int
            Number of packs to read at the same time.
        starmap : bool
            Call ``func(*element)``: each element is a sequence of arguments.
        job_type : {"array", "independent"}, optional
            Submit one array job (the default), or one Batch job for each element.
        chunksize : int or "auto", optional
            Elements in each child job. Default: as in the other map, else 1. Over 10,000 elements get 500 or more
            child jobs. ``"auto"``: one to four minutes each, by times of earlier maps, or as many as can run at once.
        depends_on : MapFuture, BatchJob, str, or a sequence of them, optional
            Up to 20 jobs that must succeed before this one starts.
        progress : bool, optional
            Show a progress bar. Default: ``CLOUDKNOT_PROGRESS``, else only on a terminal and in a notebook.
        kwargs : dict, optional
            Keyword arguments for all calls, of any size. They are uploaded once and read once by each child job.
        memory, vcpus, timeout, retries : int, optional
            As in `Knot`, for the child jobs of this map: MiB or a text, vCPUs, seconds, attempts. Default: the knot's.

        Returns
        -------
        MapFuture
            The future of the list of results, and a sequence of one future for each element.

        Raises
        ------
        CloudknotInputError
            An argument or an element is invalid. Nothing was submitted.
        """
        options = MapOptions.of_map(
            env_vars=env_vars, max_threads=max_threads, starmap=starmap, job_type=job_type, chunksize=chunksize,
            progress=progress, kwargs=kwargs, memory=memory, vcpus=vcpus, timeout=timeout, retries=retries,
        )  # fmt: skip
        self._check_usable()
        return self._submit(as_elements(iterdata), options, job_ids_of(depends_on or ()))

    @property
    def _target(self) -> Target:
        """The queue and job definition of the next map, with the facts that its submission needs."""
        return Target.of(self.name, self._program, self._resources, self._options.memory_growth)

    def _as_successor(self) -> tuple[Cloud, Target, Program | None]:
        """Return the parts that a retry needs to run the function of this knot; see `BatchJob.retry_failed`."""
        self._check_usable()
        return self._cloud, self._target, self._program

    def _gather(self, source: Source, options: MapOptions) -> MapFuture:
        """Submit one call of the function with all results of another knot's map; see `BatchJob.reduce`."""
        self._check_usable()
        return self._submit(source, options)

    def _submit(
        self, elements: Iterable[object] | Source, options: MapOptions, waits_for: Sequence[str] = ()
    ) -> MapFuture:
        run = start_run(self._cloud, self._target, elements, self._program, options, waits_for)
        # Batch has no job without elements, so the future of an empty map is made here and has no job.
        if run is None:
            return empty_map()
        self._maps += 1
        # The number tells the bars of two maps apart.
        title = self.name if self._maps == 1 else f"{self.name} #{self._maps}"
        job = started_job(self._cloud, run, options.max_threads, self._program, self._target, title)
        # So `jobs` returns this object, with its future, and need not read the run from S3.
        self._jobs[job.keys.run_id] = job
        return job.future(progress_line(job._title, job.manifest.count, options.progress))

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
        """End the knot's jobs and delete its AWS resources. Results are kept unless ``clobber_results`` is true.

        Resources that other knots use are kept, and a warning of the logger ``cloudknot`` names each with the reason.
        Call it again to finish after an error or an interruption, or to delete more. A person without the permission
        for it changes nothing, and ends no job.

        Parameters
        ----------
        clobber_pars : bool
            Also delete the Pars, unless another knot uses it.
        clobber_repo : bool
            Also delete the image repository with all its images. If another knot uses the repository, only this
            knot's images are deleted, as with ``clobber_image``.
        clobber_image : bool
            Also delete the knot's images from the repository, except those that another knot uses.
        clobber_results : bool
            Also delete the inputs and results of all maps from S3.

        Raises
        ------
        CannotDeleteResourceException
            A resource could not be deleted. The message names it, the cause and the solution.
        PermissionDeniedError
            The credentials do not allow the removal. Nothing was changed.
        ResourceClobberedException
            This knot was already clobbered, by this session or another one, and a new one of the same name exists. The
            new one is left unchanged.
        """
        if self.clobbered and not (clobber_pars or clobber_repo or clobber_image or clobber_results):
            return
        # Read before the deletion. Once the stack and its job definitions are gone, only this object names the image.
        image_uri = self._resources.image_uri
        extras = Extras(repo=clobber_repo, image=clobber_image, results=clobber_results, image_uri=image_uri)
        pars, kept = clobber_knot(self._cloud, self.name, extras, self.stack_id)
        self._clobbered = True
        self._former_pars = pars if pars.name else self._former_pars
        for message in kept:
            streams.logger.warning("%s", message)
        # The shared resources go last. By then, nothing else costs money.
        if clobber_pars:
            self._clobber_pars()

    def _clobber_pars(self) -> None:
        if kept := clobber_shared(self._cloud, self.name, self._pars_to_clobber):
            streams.logger.warning("%s", kept)
        elif self._pars is not None:
            mark_clobbered(self._pars)

    @property
    def clobbered(self) -> bool:
        """Whether `clobber` of this object has deleted the knot."""
        return self._clobbered

    @property
    def _pars_to_clobber(self) -> UsedPars:
        """The Pars of this knot. Its id is empty if nobody knows it any longer."""
        if self._pars is not None and not self._pars.clobbered:
            return UsedPars(self._pars.name, self._pars.stack_id)
        return self._former_pars if self._former_pars.name else UsedPars(self._resources.pars_name)

    def _check_usable(self) -> None:
        if self.clobbered:
            raise ResourceClobberedException(
                f"The knot {self.name!r} was clobbered and can no longer be used. "
                "The results of its maps remain available in its `jobs`. "
                f"To create it again, run Knot(name={self.name!r}, func=...).",
                resource_id=self.name,
            )


def _cloud_beside(knot: Knot, cloud: Cloud | str | None) -> Cloud:
    """Return the cloud of a new knot that uses the machines of ``knot``.

    Raises
    ------
    CloudknotInputError
        The knot is in another region, profile or cloud.
    """
    knot._check_usable()
    if cloud is None:
        # Not `knot.cloud`, which has the other knot's bucket.
        return knot._home
    chosen = choose_cloud(cloud)
    if (chosen.region, chosen.profile, chosen.endpoint_url) != (knot.region, knot.profile, knot.cloud.endpoint_url):
        refuse(
            problem=f"compute={knot.name!r} is not in the cloud of this knot.",
            cause=f"It is in {knot.cloud.place}, and cloud= means {chosen.place}.",
            fix="Pass a knot of the same cloud, or remove cloud=.",
        )
    return chosen
