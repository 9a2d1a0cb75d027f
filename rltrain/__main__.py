"""`python -m rltrain`: the command, where its script is not on the path."""

import sys

from rltrain.cli.main import main

if __name__ == "__main__":
    sys.argv[0] = "rltrain"  # what a run notes down of the command
    main()
