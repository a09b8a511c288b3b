"""The embedded demo: recorded blocks of a local chain, served as a node to this process.

It gives a fresh clone demo data without configuration. The recording was made with the demo's
scenarios (`npm run demo -- --keep`) and `npm run record`.
"""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from src.service.database.chain import holds_beyond
from src.service.database.engine import Database
from src.service.settings import ServiceSettings, database_url
from src.settings import Settings
from src.variables import SettingsError

DEMO_BLOCKS = Path(__file__).parent / "demo_blocks"
DEMO_NAMES = DEMO_BLOCKS / "names.json"
"""Its address book."""
STORY_BEGINS = 361
"""The block of the first scenario: what is before it built the demo's world, in one hurried hour,
and is the chain's history, as for any service that starts on a chain that exists already."""
DEMO_CHAIN = 1
_LAST_BLOCK = 385

_POLL_SECONDS = 0.1


@contextmanager
def embedded_node() -> Iterator[str]:
    """Serve the demo's blocks on a free loopback port; yields the URL."""
    # Here, for the process that starts the workers needs none of them.
    from src.chain.recording.format import Recording  # noqa: PLC0415
    from src.chain.replay.chain import RecordedChain  # noqa: PLC0415
    from src.chain.replay.methods import ReplayMethods  # noqa: PLC0415
    from src.chain.replay.server import RpcServer  # noqa: PLC0415

    chain = RecordedChain(Recording(DEMO_BLOCKS))
    with RpcServer(("127.0.0.1", 0), ReplayMethods(chain).methods) as server:
        threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True).start()
        try:
            yield server.url
        finally:
            server.shutdown()


def prepare_database(settings: ServiceSettings, common: Settings) -> None:
    """Migrate the database, and keep the demo's invented theft out of one with real transactions.

    Raises:
        SettingsError: there is no node, and the database holds a real chain's transactions.
        DatabaseError: the database is unusable.
    """
    with closing(Database(database_url(settings, common))) as database:
        database.migrate()
        with database.reading() as connection:
            is_real = holds_beyond(connection, DEMO_CHAIN, _LAST_BLOCK)
    if is_real and common.json_rpc_url is None:
        raise SettingsError(
            "JSON_RPC_URL",
            "set: DATABASE_URL holds a real chain's transactions, and without a node those of the "
            "demo would join them",
        )
