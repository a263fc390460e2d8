"""The image of a program: build context, assembly in a registry, Docker engine, and repository."""
