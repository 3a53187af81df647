"""`python -m services.control.auditing VERB`, as `./loa audit VERB`."""

import sys

from services.control.auditing import command

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:]))
