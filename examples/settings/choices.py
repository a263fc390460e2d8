"""Set options of a Knot, see an invalid option refused, and delete the resources of the Knot."""

import cloudknot as ck


def square(x):
    return x * x


knot = ck.Knot(
    name="chosen",
    func=square,
    job_def_vcpus=2,  # for each child job
    memory=2000,  # MiB for each child job
    retries=3,  # attempts of each child job
    timeout=600,  # seconds for each attempt
    max_vcpus=16,  # for all jobs that run at the same time
    bid_percentage=50,  # Spot instances, at up to half of the on-demand price
    aws_resource_tags={"Project": "squares"},
)
print(knot.job_definition.name, knot.job_definition.retries)
print(knot.job_queue, knot.compute_environment)
print(knot.tags["Project"], knot.tags["Name"])
print(knot.map([3]).result())

try:
    ck.Knot(name="chosen", func=square, retries=11)
except ck.CloudknotInputError as error:  # nothing was created or changed
    print(error)

knot.clobber()  # ends its jobs and deletes its resources; results stay in S3
print(knot.clobbered)
