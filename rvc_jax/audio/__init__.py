"""Signal processing on arrays; only `io` decodes and saves files (`stream` and `separate` keep
scratch files)."""
