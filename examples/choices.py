"""Choices of a Knot: what they change, what is refused, and how to delete what was made."""

import cloudknot as ck


def square(x):
    return x * x


knot = ck.Knot(
    name="chosen",
    func=square,
    job_def_vcpus=2,  # of each child job
    memory=2000,  # MiB, of each child job
    retries=3,  # attempts of each child job
    timeout=600,  # seconds of each attempt
    max_vcpus=16,  # of all jobs that run at a time
    bid_percentage=50,  # Spot instances, for half of the on-demand price at most
    aws_resource_tags={"Project": "squares"},
)
print(knot.job_definition.name, knot.job_definition.retries)
print(knot.job_queue, knot.compute_environment)
print(knot.tags["Project"], knot.tags["Name"])
print(knot.map([3]).result())

try:
    ck.Knot(name="chosen", func=square, retries=11)
except ck.CloudknotInputError as error:  # nothing was made or changed
    print(error)

knot.clobber()  # ends its jobs and deletes its resources; results stay in S3
print(knot.clobbered)
