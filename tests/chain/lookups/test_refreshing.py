"""A token's metadata is read again when it has become old, and when its proxy was upgraded."""

import json

import pytest
from werkzeug import Request, Response

from src.chain.facts import EXPIRY_SECONDS, REFRESH_SECONDS, TokenInfo
from tests.chain.lookups.world import INFO, KEY, TOKENS, World, ethplorer_answer
from tests.support.fake_chain import usual_token
from tests.support.waiting import FakeClock, wait_until

TOKEN = TOKENS[0]
RENAMED = TokenInfo("USD Coin", "USDC", 6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Of the facts' age."""
    clock = FakeClock()
    clock.now = 1_700_000_000.0
    monkeypatch.setattr("time.time", lambda: clock.now)
    return clock


def rename(world: World) -> None:
    world.node.tokens[TOKEN] = usual_token("USD Coin", "USDC", 6)


def test_old_metadata_serves_while_it_is_read_again(world: World, clock: FakeClock) -> None:
    lookups = world.lookups()
    assert lookups.token_info(TOKEN) == INFO
    rename(world)
    clock.now += REFRESH_SECONDS - 1
    assert lookups.token_info(TOKEN) == INFO
    assert world.node.calls == ["eth_call"]
    clock.now += 1
    assert lookups.gather([TOKEN], None).tokens == {TOKEN: INFO}
    wait_until(lambda: lookups.token_info(TOKEN) == RENAMED)


def test_very_old_metadata_is_read_again_before_it_is_used(world: World, clock: FakeClock) -> None:
    lookups = world.lookups()
    lookups.token_info(TOKEN)
    rename(world)
    clock.now += EXPIRY_SECONDS
    assert lookups.gather([TOKEN], None).tokens == {TOKEN: RENAMED}


def test_metadata_on_disk_has_an_age(world: World, clock: FakeClock, tmp_path) -> None:
    first = world.lookups(cache_dir=tmp_path)
    first.token_info(TOKEN)
    first.close()
    rename(world)
    clock.now += EXPIRY_SECONDS
    assert world.lookups(cache_dir=tmp_path).token_info(TOKEN) == RENAMED


def test_an_upgrade_has_metadata_read_again_at_once(world: World, tmp_path) -> None:
    lookups = world.lookups(cache_dir=tmp_path)
    lookups.token_info(TOKEN)
    rename(world)
    lookups.tokens_changed([TOKEN, TOKENS[1]])
    assert lookups.gather([TOKEN], None).tokens == {TOKEN: RENAMED}
    assert world.node.calls == ["eth_call"] * 2


def test_old_metadata_is_kept_when_no_source_answers(world: World, clock: FakeClock) -> None:
    requests: list[str] = []

    def once(request: Request) -> Response:
        requests.append(request.path)
        return world.node.answer(request) if len(requests) == 1 else Response("", 503)

    lookups = world.lookups(json_rpc_url=world.serve(once))
    lookups.token_info(TOKEN)
    clock.now += EXPIRY_SECONDS
    for _ in range(5):
        assert lookups.gather([TOKEN], None).tokens == {TOKEN: INFO}
    assert len(requests) == 2  # and the next one in a while


def test_the_contract_knows_its_new_name_before_an_explorer_does(
    world: World, clock: FakeClock
) -> None:
    lookups = world.lookups(ethplorer_url=world.serve(ethplorer_answer), ethplorer_api_key=KEY)
    assert lookups.token_info(TOKEN) == INFO
    rename(world)
    clock.now += EXPIRY_SECONDS
    assert lookups.token_info(TOKEN) == RENAMED


def test_a_clock_that_was_set_back_makes_no_metadata_last(world: World, clock: FakeClock) -> None:
    lookups = world.lookups()
    lookups.token_info(TOKEN)
    rename(world)
    clock.now -= EXPIRY_SECONDS
    assert lookups.token_info(TOKEN) == RENAMED


@pytest.mark.parametrize("views", [usual_token("Some Token", "\u200b"), usual_token("", "", 300)])
def test_a_token_without_usable_symbol_does_not_eat_the_explorers_budget(
    world: World, views: dict[str, bytes]
) -> None:
    asked = []

    def ethplorer(request: Request) -> Response:
        asked.append(request.path)
        return Response(json.dumps({"name": "", "symbol": "", "decimals": "18"}))

    world.node.tokens[TOKEN] = views
    lookups = world.lookups(ethplorer_url=world.serve(ethplorer), ethplorer_api_key=KEY)
    for _ in range(20):
        assert lookups.gather([TOKEN], None).tokens[TOKEN].symbol == ""
    assert len(asked) == 1


def test_a_symbol_given_later_is_found(world: World, clock: FakeClock) -> None:
    world.node.tokens[TOKEN] = usual_token("Proxy", "")
    lookups = world.lookups()
    lookups.token_info(TOKEN)
    rename(world)
    clock.now += 600
    assert lookups.token_info(TOKEN) == RENAMED
