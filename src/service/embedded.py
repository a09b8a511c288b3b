"""The embedded demo: recorded blocks of a local chain, served as a node to this process.

It gives a fresh clone demo data without configuration. The recording was made with the demo's
scenarios (`npm run demo -- --keep`) and `npm run record`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.chain.replay.__main__ import open_chain
from src.chain.replay.methods import ReplayMethods
from src.chain.replay.server import RpcServer

DEMO_BLOCKS = Path(__file__).parent / "demo_blocks"
DEMO_NAMES = DEMO_BLOCKS / "names.json"
"""Its address book."""
STORY_BEGINS = 361
"""The block of the first scenario: what is before it built the demo's world, in one hurried hour,
and is the chain's history, as for any service that starts on a chain that exists already."""

_POLL_SECONDS = 0.1


@contextmanager
def embedded_node() -> Iterator[str]:
    """Serve the demo's blocks on a free loopback port; yields the URL."""
    chain, _ = open_chain(DEMO_BLOCKS)
    with RpcServer(("127.0.0.1", 0), ReplayMethods(chain).methods) as server:
        threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), daemon=True).start()
        try:
            yield server.url
        finally:
            server.shutdown()
