"""Fails if a file is larger than 2 MB (pre-commit runs it).

python tests/helpers/large_files.py FILE...
"""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 2_000_000

if __name__ == "__main__":
    large = [name for name in sys.argv[1:] if Path(name).stat().st_size > LIMIT]
    for name in large:
        print(f"{name}: {Path(name).stat().st_size / 1e6:.1f} MB; at most {LIMIT / 1e6:.0f} MB")
    sys.exit(bool(large))
