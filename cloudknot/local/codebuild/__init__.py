"""The embedded cloud's CodeBuild: projects, and builds that run on this machine with its Docker engine."""
