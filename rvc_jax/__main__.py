"""`python -m rvc_jax` is `rvc-jax`."""

import sys

from rvc_jax.cli.main import main

sys.exit(main())
