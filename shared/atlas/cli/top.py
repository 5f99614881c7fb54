"""`atlas top`: services, workers, queues, providers, streams and tasks, live or once."""

import asyncio

from atlas.cli.output import Output
from atlas.cli.session import DONE, configured
from atlas.cli.top_view import as_text, draw
from atlas.client.overview import Lookout, lookout


async def top(*, once: bool, interval_s: float, as_json: bool) -> int:
    """Show what runs until Ctrl-C, or once: a screen, text in a pipe, or an object a look.

    Raises:
        ConnectionFailedError: No NATS answers.
    """
    output = Output(as_json=as_json)
    async with lookout(configured()) as watch:
        await watch.settle()
        if output.is_terminal and not once:
            await _live(watch, interval_s, output)
            return DONE
        while True:
            overview = await watch.look()
            output.show(overview, as_text(overview))
            if once:
                return DONE
            await asyncio.sleep(interval_s)


async def _live(watch: Lookout, interval_s: float, output: Output) -> None:
    from rich.live import Live  # noqa: PLC0415 - only where somebody looks

    console = output.console
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(draw(await watch.look(), console.height), refresh=True)
            await asyncio.sleep(interval_s)
