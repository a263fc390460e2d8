"""Build images on AWS CodeBuild, for sessions without a Docker engine."""
