"""Print the table of checks and limits that docs/audit.md holds: `python -m train.audit`."""

from __future__ import annotations

import sys

from train.audit.findings import limits_to_markdown

sys.stdout.write(limits_to_markdown())
