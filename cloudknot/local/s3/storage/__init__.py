"""The parts of the object store: its database, its data files, and the changes to both."""
