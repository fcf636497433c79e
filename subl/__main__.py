"""`python -m subl`."""

import sys

from subl.cli import main

sys.exit(main())
