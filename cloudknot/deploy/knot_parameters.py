"""What a knot has, as the parameters of its stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloudknot.options.choices import KnotOptions

if TYPE_CHECKING:
    from cloudknot.aws.cloud import PublishableImage
    from cloudknot.deploy.pars import Pars

ARCHITECTURES = {"linux/amd64": "X86_64", "linux/arm64": "ARM64"}
PLATFORMS = {architecture: platform for platform, architecture in ARCHITECTURES.items()}


def log_group_name(name: str) -> str:
    """Name of the log group of a knot's jobs."""
    return f"/cloudknot/{name}"


def wanted_parameters(
    options: KnotOptions, pars: Pars, image_uri: str, bucket: str, image: PublishableImage | None = None
) -> dict[str, str]:
    """The parameters of a knot's stack."""
    return {
        "ParsName": pars.name,
        "JobDefinitionName": options.job_definition_name,
        "Image": image_uri,
        "Environment": image.environment_tag if image else "none",
        "Vcpus": str(options.job_def_vcpus),
        "Memory": str(options.memory),
        "Gpus": str(options.n_gpus),
        "Retries": str(options.retries),
        "Timeout": str(options.timeout or 0),
        "Bucket": bucket,
        "LogGroupName": log_group_name(options.name),
        "JobRole": pars.job_role,
        "ExecutionRole": pars.execution_role,
        "JobQueueName": options.job_queue_name,
        "Priority": str(options.priority),
        "ComputeEnvironmentName": options.compute_environment_name,
        "ServiceRole": pars.batch_service_role,
        "InstanceProfile": pars.ecs_instance_profile,
        "Subnets": ",".join(pars.subnets),
        "SecurityGroup": pars.security_group,
        "Fargate": options.fargate,
        "Architecture": ARCHITECTURES[image.platform if image else options.platform],
        "InstanceTypes": ",".join(options.instance_types),
        "MinVcpus": str(options.min_vcpus),
        "DesiredVcpus": str(options.desired_vcpus) if options.desired_given else "",
        "MaxVcpus": str(options.max_vcpus),
        "BidPercentage": "" if options.bid_percentage is None else str(options.bid_percentage),
        "VolumeSize": str(options.volume_size or 0),
        "DiskTemplate": "no" if options.fargate else "yes",
        "ImageId": options.image_id or "",
        "KeyPair": options.ec2_key_pair or "",
    }
