"""`python -m gatekit.cli`."""

from __future__ import annotations

import sys

from gatekit.cli import main

sys.exit(main())
