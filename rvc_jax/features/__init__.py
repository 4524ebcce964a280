"""What is computed from the 16 kHz copy of a recording: pitch and content."""
