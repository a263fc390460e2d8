"""Assemble an image in a registry, without a Docker engine: base image, environment, user and program."""
