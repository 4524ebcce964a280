"""Signal processing on arrays.

Only `reading` and `writing` know files; `blocks` and `source_separation` use scratch files.
"""
