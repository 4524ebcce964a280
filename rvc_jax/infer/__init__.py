"""Speaking a recording in a trained voice."""
