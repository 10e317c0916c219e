"""`python -m dreamlab` is the `dreamlab` command."""

from dreamlab.cli.main import main

if __name__ == "__main__":
    main()
