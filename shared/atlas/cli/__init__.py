"""The `atlas` command.

`app` and the modules ending in `_app` hold signatures and help only, and import nothing heavy:
`atlas --help` waits for neither pydantic nor NATS.
"""


def main() -> None:
    """Run the command line; the console script `atlas`."""
    from atlas.cli.app import app  # noqa: PLC0415 - importing atlas.cli stays free

    app()
