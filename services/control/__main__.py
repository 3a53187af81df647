"""`python -m services.control [VERB]`: serve, or one of the verbs for the keeper of the machine."""

import sys

from services.control import commands

if __name__ == "__main__":
    sys.exit(commands.main(sys.argv[1:]))
