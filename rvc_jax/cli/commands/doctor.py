"""`rvc-jax doctor`."""

from __future__ import annotations

from rvc_jax.cli.display import print_result
from rvc_jax.cli.options import Json
from rvc_jax.cli.terminal import print_line


def doctor(as_json: Json = False) -> int:
    """Check that everything the program needs is installed and works."""
    from rvc_jax.cli.doctor import run_checks

    checks = []
    for check in run_checks():
        checks.append(check)
        if not as_json:
            print_line(f"{check.mark:<4} {check.name:<22} {check.detail}")
    broken = [check.name for check in checks if check.essential and not check.ok]
    if as_json:
        result = {"ok": not broken, "checks": [check._asdict() for check in checks]}
        print_result(result, [], as_json)
    elif broken:
        print_line(
            f"broken: {', '.join(broken)}; `rvc-jax bug-report` prints a text for an issue"
        )
    else:
        print_line("everything essential works")
    return 1 if broken else 0
