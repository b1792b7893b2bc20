"""Run the command line as `python -m autoresearch`."""

from autoresearch.cli.main import main

if __name__ == "__main__":
    main()
