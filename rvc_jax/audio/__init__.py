"""Signal processing on arrays; `reading` and `writing` know files, the rest at most scratch files."""
