"""`python -m deepseek`: the command line."""

import sys

from deepseek.cli import main

sys.exit(main())
