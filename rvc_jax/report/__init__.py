"""`report.html`: a run on one page that needs no other file."""

from rvc_jax.report.run_page import Clip, write_report

__all__ = ["Clip", "write_report"]
