"""Where NATS is, and who we are there. Part of `settings`, which reads it."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from atlas.contracts.base import PositiveMs
from atlas.provider_settings import Section
from atlas.subjects import INBOX

DEFAULT_NATS_URL = "nats://127.0.0.1:4222"


def _inbox_prefix(value: str) -> str:
    if not re.fullmatch(rf"{INBOX}(\.[A-Za-z0-9_-]{{1,128}})*", value):
        raise ValueError(
            f"give {INBOX} or {INBOX}.NAME, as in the user's permissions, not {value!r}: services "
            "answer nowhere else"
        )
    return value


type _InboxPrefix = Annotated[str, AfterValidator(_inbox_prefix)]


class TlsSettings(Section):
    """TLS to the NATS server: files in PEM."""

    ca: Path | None = Field(
        default=None, description="Who may have signed the server's certificate; else the system's."
    )
    cert: Path | None = Field(default=None, description="This client's own certificate.")
    key: Path | None = Field(default=None, description="Its key.")
    hostname: str | None = Field(
        default=None, description="The name in the server's certificate, where the URL has another."
    )
    handshake_first: bool = Field(
        default=False, description="As the server's `handshake_first` says."
    )

    @model_validator(mode="after")
    def _is_a_pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise ValueError(f"`{given}` needs `{missing}`; give both files, or neither")
        return self


class NatsSettings(Section):
    """Where NATS is, and who we are there."""

    url: str = DEFAULT_NATS_URL
    creds: Path | None = Field(default=None, description="A credentials file.")
    nkey_seed_file: Path | None = Field(
        default=None, description="A file with the seed of a user's nkey; instead of `creds`."
    )
    tls: TlsSettings | None = None
    inbox_prefix: _InboxPrefix = Field(
        default=INBOX,
        description="Where answers go: what the user's permissions let it hear.",
    )
    connect_timeout_ms: PositiveMs = 5_000
    request_timeout_ms: PositiveMs = 10_000

    @model_validator(mode="after")
    def _is_one_user(self) -> Self:
        if self.creds is not None and self.nkey_seed_file is not None:
            raise ValueError("`creds` and `nkey_seed_file` name a user each; give one of them")
        return self
