"""The build context of a program, the engine that builds it, and the repository that holds it."""
