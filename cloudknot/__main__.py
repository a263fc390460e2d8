"""``python -m cloudknot``: the ``cloudknot`` command, where it is not on the PATH."""

from cloudknot.cli.main import main

if __name__ == "__main__":
    main(prog_name="cloudknot")
