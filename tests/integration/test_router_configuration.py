"""A changed configuration is taken up without a restart, and a wrong one is refused as a whole."""

# ruff: noqa: ASYNC240 - small files of a test, written before anything runs beside it

import asyncio
import os
import signal
from pathlib import Path

import pytest

from atlas.client import Atlas
from atlas.contracts.errors import BudgetExceededError
from atlas.contracts.inference import FinishReason
from atlas.embedded import NatsProcess
from atlas.settings import Settings, load_settings
from provider_router.configuration import Configuration, Reloading
from tests.support.provider_server import Reply, serving
from tests.support.router import chat, chat_chunk, provider, routing
from tests.support.waiting import eventually

ONE = "providers: {one: {kind: mock, models: [a]}}"
TWO = "providers: {one: {kind: mock, models: [a]}, two: {kind: mock, models: [b]}}"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file of this process."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("ATLAS_", "OPENAI", "ANTHROP"))]:
        monkeypatch.delenv(name)
    return tmp_path / "atlas.yaml"


async def test_a_changed_file_is_taken_up(file: Path):
    file.write_text(ONE)
    configuration = Configuration(load_settings())
    file.write_text(TWO)
    Reloading(configuration).reload()
    assert [one.model for one in configuration.current.catalogue.models()][:2] == ["one/a", "two/b"]
    await configuration.close()


async def test_a_wrong_file_is_refused_with_every_problem_and_the_old_one_stays(file: Path):
    file.write_text(ONE)
    configuration = Configuration(load_settings())
    before = configuration.current
    file.write_text("providers: {one: {kind: mok}}\nrouter: {max_atempts: 2}")
    reloading = Reloading(configuration)
    reloading.reload()
    assert configuration.current is before
    problem = str(configuration.problem)
    assert "did you mean 'mock'" in problem
    assert "did you mean 'max_attempts'" in problem
    file.write_text(f"{ONE}\ngroups: {{team: {{members: [one/a, openai/gpt-5]}}}}")
    reloading.reload()
    assert configuration.current is before
    assert "groups.team.members.1: 'openai/gpt-5' is served by" in str(configuration.problem)
    file.write_text(TWO)
    reloading.reload()
    assert configuration.problem is None
    await configuration.close()


async def test_a_provider_that_did_not_change_keeps_its_connections_and_what_is_known_of_it(
    file: Path,
):
    file.write_text(ONE)
    configuration = Configuration(load_settings())
    adapter, account = configuration.current.adapters["one"], configuration.board.of("one")
    file.write_text(TWO)
    Reloading(configuration).reload()
    assert configuration.current.adapters["one"] is adapter
    assert configuration.board.of("one") is account
    await configuration.close()


async def test_a_stream_ends_under_the_configuration_under_which_it_began(tmp_path):
    nats = NatsProcess(tmp_path / "nats")
    await nats.start()
    async with serving(Reply(chat_chunk("Once "), then_silent=True)) as server:
        old = {"acme": provider("openai", server.url, api="chat")}
        async with routing(nats, old) as router, Atlas.connect(nats.url, settings=Settings()) as me:
            stream = me.stream("Hello", model="acme/some-model", cancel_on_exit=True)
            async with asyncio.timeout(20), stream:
                await anext(aiter(stream))
                router.configuration.take(
                    Settings(providers={"acme": provider("mock", server.url)})
                )
                assert not server.disconnected.is_set()
                server.reply = Reply(chat(["never asked"]))
                assert (await me.generate("Hello", model="acme/fast")).content != "never asked"
                assert len(server.requests) == 1
            await asyncio.wait_for(server.disconnected.wait(), 10)
    await nats.stop()


async def test_a_file_is_seen_to_have_changed_and_sighup_reads_it_again(file: Path):
    file.write_text(ONE)
    configuration = Configuration(load_settings())
    reloading = Reloading(configuration)
    watching = asyncio.create_task(reloading.run())
    file.write_text(TWO)
    await eventually(lambda: len(configuration.current.settings.providers) >= 3)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloading.ask)
    before = configuration.current
    os.kill(os.getpid(), signal.SIGHUP)
    await eventually(lambda: configuration.current is not before)
    loop.remove_signal_handler(signal.SIGHUP)
    watching.cancel()
    await configuration.close()


async def test_a_changed_key_makes_a_refused_account_available_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    (file.parent / "key").write_text("wrong")
    monkeypatch.setenv("HOME", str(file.parent))
    file.write_text("providers: {acme: {kind: openai, api_key_file: key, models: [m]}}")
    configuration = Configuration(load_settings())
    account = configuration.board.of("acme")
    refused = account.circuit.fingerprint
    (file.parent / "key").write_text("right")
    Reloading(configuration).reload()
    assert account.circuit.fingerprint != refused
    assert "right" not in account.circuit.fingerprint
    await configuration.close()


async def test_a_changed_budget_of_a_tenant_counts_from_then_on(tmp_path: Path):
    def settings(tokens: int | None) -> Settings:
        budgets = {} if tokens is None else {"tenants": {"*": {"day": {"max_tokens": tokens}}}}
        return Settings.model_validate({"providers": mock, "budgets": budgets})

    mock = {"mock": {"kind": "mock", "models": ["standard"]}}
    nats = NatsProcess(tmp_path / "nats")
    await nats.start()
    async with (
        asyncio.timeout(30),
        routing(nats, settings(None).providers) as router,
        Atlas.connect(nats.url, settings=Settings()) as me,
    ):
        await me.generate("Hello", model="mock/fast")
        router.configuration.take(settings(100))
        assert (await me.generate("Hello", model="mock/fast")).finish_reason is FinishReason.BUDGET
        with pytest.raises(BudgetExceededError, match="100 tokens"):
            await me.generate("Hello", model="mock/fast")
        router.configuration.take(settings(100_000))
        await me.generate("Hello", model="mock/fast")
        router.configuration.take(settings(None))
        await me.generate("Hello", model="mock/fast")
    await nats.stop()
