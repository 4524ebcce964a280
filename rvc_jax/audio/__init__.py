"""Signal processing on arrays; only `io` knows files."""
