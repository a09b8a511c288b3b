"""The bot on Forta's second SDK (`forta-bot-sdk`): the same pipeline, any EVM chains, one process.

    JSON_RPC_URLS="https://node-of-base https://node-of-bsc" npm run start:v2

The SDK has no handlers to export: `main` starts a scan of each node's chain and the health check
over HTTP (port FORTA_HEALTH_CHECK_PORT, 3000). docs/forta.md compares the two SDKs.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from forta_bot_sdk import (
    Finding,
    FindingSeverity,
    FindingType,
    TransactionEvent,
    create_scan_evm,
    run_health_check,
)

from src import agent, cli
from src.agent import Bot, assess_event, open_bot
from src.monitoring.bot_metrics import BotMetrics
from src.settings import Settings, load_settings, on_the_nodes_chain, read_settings
from src.utils.findings import TokenTransfersFinding
from src.utils.logger import get_logger, log_to_stderr
from src.variables import URL, WORDS, Kind, SettingsError, setting

LOGGER = get_logger(__name__)

Handler = Callable[[TransactionEvent, object], Awaitable[list[Finding]]]


def _urls(text: str) -> tuple[str, ...]:
    return tuple(URL.parse(word) for word in WORDS.parse(text))


_URLS = Kind("http:// or https:// URLs of one node a chain, separated by blanks", _urls)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes to scan, one a chain."""

    # None for the one that JSON_RPC_URL names.
    urls: tuple[str, ...] = setting("JSON_RPC_URLS", _URLS, (), secret=True)


def open_bots(settings: Settings, nodes: Nodes) -> list[Bot]:
    """One bot a node, each on the chain that its node says.

    Where FORTA_CHAIN_ID is set, as on a scan node, only the bot of that chain.

    Raises:
        SettingsError: there is no node, none of that chain, or two of one chain.
        SourceUnavailable: a node does not say its chain.
    """
    urls = nodes.urls or ((settings.json_rpc_url,) if settings.json_rpc_url else ())
    bots: list[Bot] = []
    others: list[int] = []
    for url in urls:
        is_set = settings.is_chain_set and len(urls) == 1  # then there is no other to choose
        own = on_the_nodes_chain(replace(settings, json_rpc_url=url, is_chain_set=is_set))
        if settings.is_chain_set and own.chain_id != settings.chain_id:
            others.append(own.chain_id)
            continue
        if any(own.chain_id == bot.settings.chain_id for bot in bots):
            raise SettingsError(
                "JSON_RPC_URLS", f"one node a chain; two are on chain {own.chain_id}"
            )
        port = None if bots else settings.metrics_port
        bot = open_bot(replace(own, is_chain_set=True, metrics_port=port))
        if bots and bots[0].metrics is not None:
            shared = BotMetrics(None, "", pipeline=bot.pipeline, lookups=bot.lookups)
            bot = replace(bot, metrics=shared)
        bots.append(bot)
    if others and not bots:
        allowed = f"{' or '.join(map(str, others))}, the chains of the nodes, or unset"
        raise SettingsError("FORTA_CHAIN_ID", allowed, str(settings.chain_id))
    if not bots:
        raise SettingsError("JSON_RPC_URLS", "set to a node")
    return bots


def handler(bot: Bot) -> Handler:
    """The SDK's transaction handler for a bot's chain."""

    async def handle_transaction(event: TransactionEvent, _provider: object) -> list[Finding]:
        # Look-ups wait for other machines; the SDK's loop goes on meanwhile.
        return await asyncio.to_thread(assess_event, event, bot, to_finding)

    return handle_transaction


def scan_options(bot: Bot) -> dict[str, object]:
    """What the SDK is given to scan a bot's chain."""
    return {
        "rpc_url": bot.settings.json_rpc_url,
        # Without it the SDK names no type, and some nodes (Anvil, Geth) refuse the request.
        "rpc_headers": {"Content-Type": "application/json"},
        "handle_transaction": handler(bot),
    }


def to_finding(finding: TokenTransfersFinding) -> Finding:
    """The finding of this SDK: it has no protocol, since its source names the chain."""
    made = vars(finding.emit_finding())
    own = {
        "severity": FindingSeverity(int(made["severity"])),
        "type": FindingType(int(made["type"])),
        "labels": [vars(label) for label in made["labels"]],
    }
    return Finding(made | own)


async def scan() -> None:
    """Scan every node's chain until the end of the process."""
    bots = open_bots(load_settings(), read_settings(Nodes))

    async def health() -> list[str]:
        return [error for bot in bots for error in agent.health_of(bot)]

    scans = [create_scan_evm()(scan_options(bot)) for bot in bots]
    await asyncio.gather(*scans, run_health_check(health))


@cli.command("start:v2")
def main() -> int:
    """Run the bot; returns the exit code of the process."""
    log_to_stderr()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the SDK's own fails when called
    asyncio.run(scan())
    return 0


if __name__ == "__main__":
    sys.exit(main())
