"""Turn a function into a program: its pickle, local modules, requirements and digest. Builds nothing."""
