"""The contract as an AsyncAPI 3.0 document: from the table of subjects and the models' schemas.

Every subject is a channel. What Atlas takes there is an operation `receive`, what it tells an
operation `send`; between its own services there are both. Payloads are the schemas beside it.
"""

import re
from importlib.metadata import version

from atlas.contracts.errors import ErrorReply
from docs import contract_tables as tables
from docs.contract_subjects import SubjectRow, internal_subjects, public_subjects

type Json = dict[str, object]

_ARROW = " → "
_PARAMETERS = {
    "tenant": "Who it belongs to; `default` where nothing else is set.",
    "stream_id": "The address of a stream; whoever asks may choose it.",
    "task_id": "The id of a task; whoever submits it may choose it.",
    "subtask_id": "An id in the plan of the task.",
    "attempt": "1, 2, 3 …",
    "lane": "`interactive` goes before `batch`.",
    "capability": "What a worker can do, such as `research`.",
    "priority": "`high`, `normal` or `low`.",
    "source": "The service that tells, such as `provider_router`.",
    "type": "Of the event, such as `stream.completed`; it may have several tokens.",
    "scope": "`day`, `month` or `task`.",
    "key": "The date in UTC, or the id of the task.",
    "unit": "`tokens` or `usd`.",
    "date": "In UTC.",
    "model": "As one token: percent-encoded.",
    "reservation_id": "The id of a reservation.",
    "object_id": "The id of an object; whoever stores it chooses it.",
    "number": "Which part of it: 0, 1, 2 …",
    "kind": "What could not be taken: `stream` or `task`.",
    "id": "Of the stream or the task.",
}


def document() -> Json:
    """The whole document."""
    channels: Json = {}
    operations: Json = {}
    named: set[str] = set()
    for row in [*public_subjects(), *internal_subjects()]:
        id_ = channel_id(row[0])
        asked, answers = messages_of(row)
        named |= {*asked, *answers}
        channels[id_] = _channel(row, asked)
        if answers:
            channels[f"{id_}.reply"] = _reply_channel(id_, answers)
        operations |= _operations(row, asked, answers)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Atlas",
            "version": version("atlas-llm"),
            "description": "LLM work over NATS. What each subject means, the headers, and what is "
            "promised of them stands in contract.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "127.0.0.1:4222",
                "protocol": "nats",
                "description": "A NATS server with JetStream, 2.12 or newer.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": {name: _message(name) for name in sorted(named)}},
    }


def channel_id(subject: str) -> str:
    """The literal tokens of a subject, such as `stream.chunk`."""
    tokens = subject.split(".")[2:]
    return ".".join(token for token in tokens if not token.startswith("{"))


def messages_of(row: SubjectRow) -> tuple[list[str], list[str]]:
    """The models that go over a subject, and those that answer them."""
    asked, _, answered = row[2].partition(_ARROW)
    known = tables.schemas()

    def models(text: str) -> list[str]:
        return [name for name in re.findall(r"`(\w+)`", text) if name in known]

    return models(asked), [*models(answered), ErrorReply.__name__] if answered else []


def _channel(row: SubjectRow, asked: list[str]) -> Json:
    subject, who, what, kept = row
    about = f"{who}. {_plain(what)}." + (f" Kept in {kept}." if kept else "")
    names = re.findall(r"\{(\w+)\}", subject)
    return {
        "address": subject,
        "description": about,
        "parameters": {name: {"description": _PARAMETERS[name]} for name in names},
        "messages": {name: _ref("components", "messages", name) for name in asked},
    }


def _reply_channel(id_: str, answers: list[str]) -> Json:
    return {
        "address": None,
        "description": f"Where whoever asks {id_} wants the answer: the reply subject of NATS.",
        "messages": {name: _ref("components", "messages", name) for name in answers},
    }


def _operations(row: SubjectRow, asked: list[str], answers: list[str]) -> Json:
    id_, who = channel_id(row[0]), row[1]
    sender, arrow, receiver = who.partition("→")
    made: Json = {}
    if not arrow or sender.strip() != "anyone":
        made[f"send.{id_}"] = _operation("send", id_, asked)
    if arrow and receiver.strip() != "anyone":
        made[f"receive.{id_}"] = _operation("receive", id_, asked) | _reply(id_, answers)
    return made


def _reply(id_: str, answers: list[str]) -> Json:
    if not answers:
        return {}
    reply = f"{id_}.reply"
    return {
        "reply": {
            "address": {"location": "$message.header#/reply"},
            "channel": _ref("channels", reply),
            "messages": [_ref("channels", reply, "messages", name) for name in answers],
        }
    }


def _operation(action: str, id_: str, asked: list[str]) -> Json:
    return {
        "action": action,
        "channel": _ref("channels", id_),
        "messages": [_ref("channels", id_, "messages", name) for name in asked],
    }


def _message(name: str) -> Json:
    return {
        "name": name,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"schemas/{name}.json"},
        },
    }


def _ref(*path: str) -> Json:
    return {"$ref": "#/" + "/".join(path)}


def _plain(text: str) -> str:
    return text.replace("`", "")
