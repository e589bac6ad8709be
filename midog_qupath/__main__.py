"""``python -m midog_qupath``: the same as the command ``midog-qupath``."""

from midog_qupath.cli.main import main

if __name__ == "__main__":
    main()
