"""Parts of the client of container registries that need no connection."""
