"""Parameters and settings: their defaults, their checks and their sources. This folder makes no remote calls."""
