"""How the networks are computed fast on each chip; `README.md` in this folder has the overview."""
