"""Checks a quickstart's result against the promises of the README.

The exit code is 1 if one is broken.

python .ci/check_quickstart.py QUICKSTART.json
"""

import json
import sys
from pathlib import Path

result = json.loads(Path(sys.argv[1]).read_text())
promises = {
    "hold-out error at least 10 % lower than the base voice's": result["holdout_after"]
    <= 0.9 * result["holdout_before"],
    "f0 correlation at least 0.9": result["f0_correlation"] >= 0.9,
    "less than 4 GB": result["peak_memory_bytes"] < 4e9,
    "every file written": all(Path(path).exists() for path in result["files"]),
}
for name, kept in promises.items():
    print(f"{'ok  ' if kept else 'FAIL'} quickstart: {name}")
print(f"quickstart took {result['seconds']:.0f} s")
sys.exit(not all(promises.values()))
