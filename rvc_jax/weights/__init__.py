"""Public weights: those that come with the package (`bundled`), those that are downloaded
(`registry`, `store`)."""
