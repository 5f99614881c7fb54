"""`atlas doctor`: what works, what does not, and what to do."""

from atlas.cli.output import Output
from atlas.cli.session import DONE, FAILED, configured
from atlas.client.diagnosis import diagnose, is_serving

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


async def doctor(service: str | None, *, as_json: bool) -> int:
    """Look at everything, or only at one service on this host; 1 when there is a problem.

    Raises:
        ConnectionFailedError: No NATS answers; says where it looked and what to start.
    """
    output = Output(as_json=as_json)
    settings = configured()
    if service is not None:
        serves = await is_serving(settings, service)
        said = "answers" if serves else "does not answer on this host"
        output.show({"service": service, "serving": serves}, f"{service} {said}")
        return DONE if serves else FAILED
    findings = await diagnose(settings)
    for finding in findings:
        mark, style = _MARKS[finding.level]
        if output.is_terminal:
            output.console.print(f"[{style}]{mark}[/] [bold]{finding.check}[/]", end="  ")
            output.console.print(finding.message, markup=False)
        else:
            output.show(finding, f"{finding.level}: {finding.check}: {finding.message}")
    return FAILED if any(finding.level == "problem" for finding in findings) else DONE
