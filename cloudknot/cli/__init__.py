"""The ``cloudknot`` command."""
