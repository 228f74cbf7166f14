"""`moongate schema`: the JSON Schema of configuration files, for editors."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from moongate.control.schema.reference import json_schema


def schema(out: TextIO | None = None) -> int:
    """Print one JSON Schema document for the whole file, both dialects."""
    (out or sys.stdout).write(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")
    return 0
