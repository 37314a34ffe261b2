"""`python -m tidesight` is the `tidesight` command."""

from tidesight.cli import main

if __name__ == "__main__":
    main()
