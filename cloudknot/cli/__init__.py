"""The ``cloudknot`` command. It calls the stages directly, since most sub-commands need no function."""
