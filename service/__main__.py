"""Start the command line: `python -m service` is the console script `isotrope`."""

from service.cli.main import run

if __name__ == "__main__":
    run()
