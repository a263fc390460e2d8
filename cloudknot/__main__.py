"""Run the ``cloudknot`` command as ``python -m cloudknot``, for environments in which it is not on the PATH."""

from cloudknot.cli.main import main

if __name__ == "__main__":
    main(prog_name="cloudknot")
