"""Files, folders and object stores."""
