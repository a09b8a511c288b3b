"""Watching chains of different ids: nothing is said or stored of one as if it were another."""

import threading
from pathlib import Path

import pytest

from src.chain.networks import described, network
from src.service.api.common import transaction_link
from src.service.database import alerts, chain
from src.service.database.engine import Database
from src.service.watch.run import watch
from src.settings import on_the_nodes_chain
from src.variables import SettingsError
from tests.service.chain import common_settings, service_settings, sqlite_url
from tests.support.two_usdcs import TwoUsdcs, two_usdcs

IMPERSONATED = "IMPERSONATED-TOKEN"


@pytest.mark.integration
def test_chains_watched_into_one_database_stay_apart(tmp_path: Path) -> None:
    settings = service_settings(sqlite_url(tmp_path), watch_from=0)
    watched: dict[int, TwoUsdcs] = {}
    for chain_id in (8453, 424_242):
        with two_usdcs(chain_id) as usdc:
            watched[chain_id] = usdc
            common = on_the_nodes_chain(common_settings(usdc.chain.url))
            assert common.chain_id == chain_id
            assert watch(settings, common, threading.Event(), once=True) == 0
            with pytest.raises(SettingsError, match=rf"must be {chain_id}, .*\(it is '1'\)"):
                on_the_nodes_chain(common_settings(usdc.chain.url, is_chain_set=True))
    database = Database(sqlite_url(tmp_path))
    with database.reading() as connection:
        for chain_id, usdc in watched.items():
            for tx_hash in (usdc.genuine, usdc.counterfeit):
                homes = [
                    one
                    for one in (1, *watched)
                    if chain.find_transaction(connection, one, tx_hash) is not None
                ]
                assert homes == [chain_id]
            wanted = alerts.AlertFilter(chain_id=chain_id)
            found, _ = alerts.list_alerts(connection, wanted, limit=1000)
            assert {alert.chain_id for alert in found} <= {chain_id}
            impersonations = {alert.tx_hash for alert in found if alert.alert_id == IMPERSONATED}
            assert usdc.genuine not in impersonations
            assert (usdc.counterfeit in impersonations) == (network(chain_id).name != "unknown")
        everything, _ = alerts.list_alerts(connection, alerts.AlertFilter(), limit=1000)
    database.close()
    assert {alert.chain_id for alert in everything} <= set(watched)


@pytest.mark.parametrize(
    ("chain_id", "link"),
    [
        (1, "https://etherscan.io/tx/0xab"),
        (56, "https://bscscan.com/tx/0xab"),
        (137, "https://polygonscan.com/tx/0xab"),
        (8453, "https://basescan.org/tx/0xab"),
        (42161, "https://arbiscan.io/tx/0xab"),
        (424_242, ""),
    ],
)
def test_a_link_leads_to_the_chains_explorer_or_nowhere(chain_id: int, link: str) -> None:
    assert transaction_link(chain_id, "0xab") == link
    assert str(chain_id) in described(chain_id)
