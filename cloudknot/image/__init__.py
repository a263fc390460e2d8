"""The image of a program: its build context, the Docker engine that builds it, and its repository."""
