"""What a knot has, read-only: names, resources, tags, jobs."""

from __future__ import annotations

from collections.abc import Mapping

from cloudknot.aws import Cloud
from cloudknot.deploy.account.buckets import clouds_of
from cloudknot.deploy.knot_stack import JobDefinition, KnotResources
from cloudknot.deploy.pars import Pars
from cloudknot.image.docker_image import DockerImage
from cloudknot.image.repository import DockerRepo, repository_of
from cloudknot.options.choices import KnotOptions
from cloudknot.run.jobs.history import discard_left_over, find_jobs
from cloudknot.run.jobs.job import BatchJob


class KnotProperties:
    """The properties of `cloudknot.Knot`, which sets the attributes that they are read from."""

    _options: KnotOptions
    _cloud: Cloud
    _resources: KnotResources
    _docker_image: DockerImage | None
    _given_pars: Pars | None
    _jobs: dict[str, BatchJob | None]

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
        if self._given_pars is None:
            self._given_pars = Pars(name=self._resources.pars_name, cloud=self._cloud)
        return self._given_pars

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
        return self._repository(repository_of(self._resources.image_uri))

    def _repository(self, name: str) -> DockerRepo:
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
