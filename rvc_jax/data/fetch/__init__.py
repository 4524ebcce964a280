"""From links to recordings."""
