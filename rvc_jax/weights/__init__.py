"""Public weights: those that come with the package (`bundled`) and how they are read."""
