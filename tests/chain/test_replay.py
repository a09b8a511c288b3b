"""Replaying recordings and data sets: the same answers as the node, and no invented ones."""

import gzip
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.chain.clients.rpc import JsonRpcClient
from src.chain.erc20 import token_infos
from src.chain.errors import RequestRefused
from src.chain.recording.__main__ import main as record
from src.chain.recording.format import open_writer
from src.chain.recording.rows import encode_block
from src.chain.replay.__main__ import main, open_chain
from src.chain.replay.methods import ReplayMethods
from src.chain.replay.server import MAX_BATCH, MAX_REQUEST_BYTES, RpcServer
from src.chain.transfers import TRANSFER_TOPIC
from src.demo.anvil import Chain, anvil
from src.demo.forta_cli import run_cli
from src.demo.processes import supervised
from tests.chain.test_recording import SENDER, TOKEN, block_hash, make_block, make_log
from tests.support.recording_chain import NAME, ROOT, SYMBOL, play
from tests.support.waiting import PATIENCE

UNKNOWN_HASH = "0x" + "99" * 32
NOT_RECORDED = -32001


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    chain, _ = open_chain(folder)
    with RpcServer(("127.0.0.1", 0), ReplayMethods(chain).methods) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def post(url: str, body: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return requests.post(url, data=data, timeout=PATIENCE).json()


def ask(url: str, method: str, *params: Any) -> Any:
    answer = post(url, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    return answer["result"] if "result" in answer else answer["error"]["code"]


@pytest.fixture(scope="module")
def chain() -> Iterator[tuple[Chain, str]]:
    with anvil(timestamp=1_700_000_000) as running:
        token = play(running)
        yield running, token


@pytest.fixture(scope="module")
def replayed(
    chain: tuple[Chain, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Chain, str, str]]:
    """The chain, its token, and the URL of its replay."""
    node, token = chain
    folder = tmp_path_factory.mktemp("recording")
    head = str(int(node.rpc("eth_blockNumber"), 16))
    options = ["--url", node.url, "--requests-per-second", "5000", "--blocks-per-part", "7"]
    blocks = ["--from-block", "0", "--to-block", head, "--out", str(folder)]
    assert record([*blocks, *options]) == 0
    with serve(folder) as url:
        yield node, token, url


@pytest.fixture
def small(tmp_path: Path) -> Iterator[str]:
    """Blocks 10, 11 and 13; 11 has two transfers of TOKEN."""
    with open_writer(tmp_path, 1) as writer:
        for numbers in ((10, 11), (13,)):
            for number in numbers:
                logs = [make_log(0), make_log(1, topics=[UNKNOWN_HASH])] if number == 11 else []
                block = make_block(number, logs)
                writer.add(encode_block(block, receipts_root_verified=True))
            writer.write()
    with serve(tmp_path) as url:
        yield url


@pytest.fixture
def usual_recursion_limit() -> Iterator[None]:
    """Python's own limit, as in the replay's process; `forta_agent` raises it beyond the stack."""
    raised = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(raised)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A folder in the data-set layout: two blocks, and one transaction of unknown sender."""
    common = {
        "block_timestamp": 1_700_000_000,
        "value_wei": "5",
        "gas_used": 50_000,
        "gas_price": "1000000000",
        "status": 1,
        "nonce": 3,
        "input_selector": "0xa9059cbb",
        "tx_type": 2,
        "n_logs": 1,
        "n_erc20_transfers": 1,
        "n_erc721_transfers": 0,
        "n_other_transfer_sig": 0,
        "from_address": SENDER,
        "to_address": TOKEN,
        "full_block": True,
        "receipts_root_verified": True,
    }
    transactions = [
        common | {"tx_hash": UNKNOWN_HASH, "block_number": 9, "from_address": None},
        common
        | {"tx_hash": "0x" + "b2" * 32, "block_number": 11, "tx_index": 1, "nonce": None}
        | {"block_hash": block_hash(11), "status": None, "tx_type": 0, "value_wei": None},
        common
        | {"tx_hash": "0x" + "b1" * 32, "block_number": 11, "tx_index": 0}
        | {"block_hash": block_hash(11)},
        common
        | {"tx_hash": "0x" + "a1" * 32, "block_number": 10, "tx_index": 0}
        | {"block_hash": block_hash(10), "full_block": False},
    ]
    moved = {"token_address": TOKEN, "from_address": SENDER, "to_address": TOKEN}
    transfers = [
        moved
        | {"tx_hash": transaction_hash, "log_index": index, "value_raw": value, "token_std": kind}
        for transaction_hash, index, value, kind in [
            ("0x" + "b1" * 32, 4, str(2**256 - 1), "erc20"),
            ("0x" + "b1" * 32, 2, "77", "erc721"),
            (UNKNOWN_HASH, 0, "1", "erc20"),
        ]
    ]
    for index, row in enumerate(transactions):  # the first row gives the columns
        transactions[index] = {"tx_index": None, "block_hash": None} | row
    pq.write_table(pa.Table.from_pylist(transactions), tmp_path / "transactions.parquet")
    pq.write_table(pa.Table.from_pylist(transfers), tmp_path / "transfers.parquet")
    with gzip.open(tmp_path / "tokens.csv.gz", "wt") as file:
        file.write(f"address,symbol,decimals,name\n{TOKEN},RCT,6,Recorded\n")
    return tmp_path


@pytest.mark.integration
def test_every_block_answers_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, _, url = replayed
    for number in range(int(node.rpc("eth_blockNumber"), 16) + 1):
        block = node.rpc("eth_getBlockByNumber", hex(number), True)
        questions: list[tuple[Any, ...]] = [
            ("eth_getBlockByNumber", hex(number), True),
            ("eth_getBlockByNumber", hex(number), False),
            ("eth_getBlockByHash", block["hash"], True),
            ("eth_getBlockByHash", block["hash"].upper().replace("0X", "0x"), False),
            ("eth_getBlockReceipts", hex(number)),
            ("eth_getBlockReceipts", block["hash"]),
            ("eth_getLogs", {"fromBlock": hex(number), "toBlock": hex(number)}),
            ("eth_getLogs", {"blockHash": block["hash"]}),
        ]
        for transaction in block["transactions"]:
            questions += [
                ("eth_getTransactionByHash", transaction["hash"]),
                ("eth_getTransactionReceipt", transaction["hash"]),
                ("eth_getTransactionCount", transaction["from"], hex(number)),
            ]
        for question in questions:
            assert ask(url, *question) == node.rpc(*question), question


@pytest.mark.integration
def test_the_chain_itself_answers_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, _, url = replayed
    for question in [
        ("eth_chainId",),
        ("net_version",),
        ("eth_blockNumber",),
        ("eth_getBlockByNumber", "latest", True),
        ("eth_getBlockByNumber", "earliest", False),
        ("eth_getBlockByNumber", "0xffffff", False),
        ("eth_getTransactionCount", node.accounts[0], "latest"),
        ("eth_getTransactionCount", node.accounts[0], "0x0"),
    ]:
        assert ask(url, *question) == node.rpc(*question), question


@pytest.mark.integration
def test_logs_are_filtered_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, token, url = replayed
    everything = {"fromBlock": "0x0", "toBlock": "latest"}
    word = "0x" + "0" * 24
    receiver = word + node.accounts[1][2:]
    other = "0x" + "ab" * 20
    filters: list[dict[str, Any]] = [
        {},
        {"address": token},
        {"address": token.upper().replace("0X", "0x")},
        {"address": [token, other]},
        {"address": other},
        {"address": []},
        {"topics": []},
        {"topics": [TRANSFER_TOPIC]},
        {"topics": [None, None, receiver]},
        {"topics": [[TRANSFER_TOPIC, UNKNOWN_HASH], None, [receiver, word + node.accounts[2][2:]]]},
        {"topics": [UNKNOWN_HASH]},
    ]
    found = []
    for one in filters:
        logs = ask(url, "eth_getLogs", everything | one)
        assert logs == node.rpc("eth_getLogs", everything | one), one
        found.append(len(logs))
    assert found[0] > max(found[1], found[8])  # the filters do filter
    assert min(found[1], found[8]) > 0


def test_a_filter_of_four_topics_wants_four_as_geth_has_it(small: str) -> None:
    def found(*topics: Any) -> int:
        return len(ask(small, "eth_getLogs", {"blockHash": block_hash(11), "topics": topics}))

    assert found(TRANSFER_TOPIC, None, None) == 1
    assert found(TRANSFER_TOPIC, None, None, None) == 0


@pytest.mark.integration
def test_token_metadata_answers_as_on_the_node(replayed: tuple[Chain, str, str]) -> None:
    node, token, url = replayed
    for selector in ("0x06fdde03", "0x95d89b41", "0x313ce567"):
        call = {"to": token, "data": selector}
        assert ask(url, "eth_call", call, "latest") == node.rpc("eth_call", call, "latest")
    info = token_infos(JsonRpcClient(url), [token])[token]  # the bot's own client, by Multicall3
    assert not isinstance(info, Exception)
    assert (info.name, info.symbol, info.decimals) == (NAME, SYMBOL, 18)


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["tx", "block", "range"])
def test_the_forta_cli_runs_on_a_replay(
    replayed: tuple[Chain, str, str], tmp_path: Path, mode: str
) -> None:
    node, _, url = replayed
    (tmp_path / "src").mkdir()
    (tmp_path / "package.json").write_text('{"name": "t", "version": "0.0.1", "chainIds": [1]}')
    (tmp_path / "src" / "agent.py").write_text(
        "from forta_agent import Finding, FindingSeverity, FindingType\n"
        "def handle_transaction(event):\n"
        "    return [Finding({'name': 'n', 'description': str(len(event.logs)), 'alert_id': 'A',\n"
        "        'severity': FindingSeverity.Info, 'type': FindingType.Info})]\n"
    )
    blocks = [
        node.rpc("eth_getBlockByNumber", hex(number), True)
        for number in range(int(node.rpc("eth_blockNumber"), 16) + 1)
    ]
    busiest = max(range(len(blocks)), key=lambda number: len(blocks[number]["transactions"]))
    chosen = blocks[busiest : busiest + 2] if mode == "range" else [blocks[busiest]]
    hashes = [transaction["hash"] for block in chosen for transaction in block["transactions"]]
    argument = {"tx": hashes[0], "block": str(busiest), "range": f"{busiest}..{busiest + 1}"}
    if mode == "tx":
        hashes = hashes[:1]
    home = tmp_path / "home"
    result = run_cli(mode, argument[mode], json_rpc_url=url, home=home, project=tmp_path)
    logs_of = {tx: len(node.rpc("eth_getTransactionReceipt", tx)["logs"]) for tx in hashes}
    seen = {tx: int(findings[0]["description"]) for tx, findings in result.findings.items()}
    assert seen == logs_of
    assert max(logs_of.values()) > 0


def test_what_is_not_recorded_is_an_error_and_not_null(small: str) -> None:
    for question in [
        ("eth_getBlockByNumber", "0xc", False),
        ("eth_getBlockByHash", UNKNOWN_HASH, False),
        ("eth_getTransactionByHash", UNKNOWN_HASH),
        ("eth_getTransactionReceipt", UNKNOWN_HASH),
        ("eth_getBlockReceipts", "0x9"),
        ("eth_getLogs", {"fromBlock": "0xa", "toBlock": "0xd"}),
        ("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0xa"}),
        ("eth_call", {"to": TOKEN, "data": "0x06fdde03"}, "latest"),
        ("eth_call", {"to": TOKEN, "data": "0x"}, "latest"),
        ("eth_getTransactionCount", TOKEN, "latest"),
    ]:
        assert ask(small, *question) == NOT_RECORDED, question


def test_a_missing_block_names_its_neighbours(small: str) -> None:
    request = {"id": 1, "method": "eth_getBlockByNumber", "params": ["0xc", True]}
    message = post(small, request)["error"]["message"]
    assert message == "block 12 is not in this recording; the nearest recorded are 11 and 13"


def test_above_the_newest_block_there_is_nothing(small: str) -> None:
    assert ask(small, "eth_getBlockByNumber", "0xe", True) is None
    assert ask(small, "eth_getBlockReceipts", "0xe") is None
    assert ask(small, "eth_getLogs", {"fromBlock": "0xe", "toBlock": "0xf"}) == []
    assert ask(small, "eth_getLogs", {"fromBlock": "0xd", "toBlock": "0xff"}) == []


def test_nonces_are_served_if_recorded_ones_bound_them(small: str) -> None:
    def nonce(block: int) -> Any:
        return ask(small, "eth_getTransactionCount", SENDER, hex(block))

    # make_block(n) holds one transaction of SENDER, of nonce n.
    assert nonce(10) == "0xb"
    assert nonce(11) == "0xc"
    assert nonce(12) == "0xd"  # block 12 is not recorded, but block 13's first nonce is 13
    assert nonce(13) == "0xe"
    assert nonce(9) == "0xa"  # block 10 is recorded, and its first nonce is 10
    assert nonce(8) == NOT_RECORDED


def test_accounts_that_others_may_raise_the_nonce_of_are_not_guessed(tmp_path: Path) -> None:
    with open_writer(tmp_path, 1) as writer:
        for number in (10, 11):
            # EIP-7702: block 11 could have raised the nonce of any account.
            kind = {"type": "0x4", "from": "0x" + "dd" * 20} if number == 11 else {}
            block = make_block(number, [], transaction=kind)
            writer.add(encode_block(block, receipts_root_verified=True))
        writer.write()
    with serve(tmp_path) as url:
        assert ask(url, "eth_getTransactionCount", SENDER, "0xa") == "0xb"
        assert ask(url, "eth_getTransactionCount", SENDER, "0xb") == NOT_RECORDED


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b"17", -32600),
        (b"null", -32600),
        (b"[]", -32600),
        (b"{}", -32600),
        (b'{"method": 5, "id": 1}', -32600),
        (b'{"method": "eth_chainId", "id": {}}', -32600),
        (b'{"method": "eth_chainId", "id": true}', -32600),
        (b'{"method": "eth_sendRawTransaction", "id": 1}', -32601),
        (b'{"method": "__class__", "id": 1}', -32601),
        (b'{"method": "eth_chainId", "params": {"a": 1}, "id": 1}', -32602),
        (b'{"method": "eth_chainId", "params": [1], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": [], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": [7, true], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": ["0x", true], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": ["0xa", "yes"], "id": 1}', -32602),
        (b'{"method": "eth_getBlockByNumber", "params": [["latest"], true], "id": 1}', -32602),
        (b'{"method": "eth_getTransactionByHash", "params": ["0x12"], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": ["latest"], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": [{"address": 5}], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": [{"topics": "0x"}], "id": 1}', -32602),
        (b'{"method": "eth_getLogs", "params": [{"topics": [[[]]]}], "id": 1}', -32602),
        (
            b'{"method": "eth_getLogs", "params": [{"fromBlock": "0xb", "toBlock": "0xa"}],'
            b' "id": 1}',
            -32602,
        ),
        (b'{"method": "eth_call", "params": [{"to": null}], "id": 1}', -32602),
        (b'{"method": "eth_getTransactionCount", "params": ["me"], "id": 1}', -32602),
    ],
)
def test_what_is_no_proper_request_gets_its_error(
    small: str, usual_recursion_limit: None, body: bytes, code: int
) -> None:
    answer = post(small, body)
    assert answer["error"]["code"] == code
    assert answer["jsonrpc"] == "2.0"
    assert "id" in answer


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_parameters_are_an_internal_error(small_methods: RpcServer, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(sorted(small_methods.methods)))
    filters = st.fixed_dictionaries(
        {},
        optional={
            "fromBlock": json_values,
            "toBlock": json_values,
            "blockHash": json_values,
            "address": json_values,
            "topics": json_values,
            "to": json_values,
            "data": json_values,
        },
    )
    plausible = st.sampled_from(["latest", "0xa", UNKNOWN_HASH, TOKEN, True])
    params = data.draw(st.lists(json_values | filters | plausible, max_size=3))
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = small_methods.answer(json.dumps(request).encode())
    assert isinstance(answer, dict)
    assert answer.get("error", {}).get("code") in (None, -32602, -32001, 3)


@pytest.fixture
def small_methods(tmp_path: Path) -> Iterator[RpcServer]:
    with open_writer(tmp_path, 1) as writer:
        writer.add(encode_block(make_block(10), receipts_root_verified=True))
        writer.write()
    chain, _ = open_chain(tmp_path)
    with RpcServer(("127.0.0.1", 0), ReplayMethods(chain).methods) as server:
        yield server


def test_a_batch_is_answered_in_order_without_its_notifications(small: str) -> None:
    batch = [
        {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": 7, "method": "nonsense"},
        5,
        {"jsonrpc": "2.0", "id": None, "method": "eth_blockNumber", "params": []},
    ]
    answers = post(small, batch)
    assert [(answer["id"], answer.get("result")) for answer in answers] == [
        ("a", "0x1"),
        (7, None),
        (None, None),
        (None, "0xd"),
    ]
    assert post(small, [{"method": "eth_chainId"}] * (MAX_BATCH + 1))["error"]["code"] == -32600


def test_a_notification_has_no_answer(small: str) -> None:
    response = requests.post(
        small, data=b'{"jsonrpc": "2.0", "method": "eth_chainId"}', timeout=PATIENCE
    )
    assert (response.status_code, response.content) == (204, b"")


def test_bodies_are_bounded(small: str) -> None:
    assert (
        requests.post(small, data=b" " * (MAX_REQUEST_BYTES + 1), timeout=PATIENCE).status_code
        == 413
    )
    assert requests.post(small, data=iter([b"{}"]), timeout=PATIENCE).status_code == 411
    assert ask(small, "eth_chainId") == "0x1"


def test_many_clients_are_served_at_once(small: str) -> None:
    def one(_: int) -> list[Any]:
        numbers = (0xA, 0xB, 0xD)
        return [ask(small, "eth_getBlockByNumber", hex(n), True)["number"] for n in numbers]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(100))) == [["0xa", "0xb", "0xd"]] * 100


def test_a_data_set_is_served_as_blocks(dataset: Path) -> None:
    with serve(dataset) as url:
        block = ask(url, "eth_getBlockByNumber", "latest", True)
        assert [tx["hash"] for tx in block["transactions"]] == ["0x" + "b1" * 32, "0x" + "b2" * 32]
        assert block["parentHash"] == block_hash(10)
        first, second = ask(url, "eth_getBlockReceipts", "0xb")
        assert [log["logIndex"] for log in first["logs"]] == ["0x2", "0x4"]
        assert first["logs"][0]["topics"][3] == f"0x{77:064x}"
        assert first["logs"][0]["data"] == "0x"
        assert first["logs"][1]["topics"] == [
            TRANSFER_TOPIC,
            "0x" + "0" * 24 + SENDER[2:],
            "0x" + "0" * 24 + TOKEN[2:],
        ]
        assert first["logs"][1]["data"] == "0x" + "f" * 64
        assert first["cumulativeGasUsed"] == hex(50_000)
        assert second["cumulativeGasUsed"] == hex(100_000)
        assert second["logs"] == []
        assert first["status"] == "0x1"
        assert "status" not in second
        assert ask(url, "eth_getLogs", {"fromBlock": "0xb"}) == first["logs"]


def test_a_data_sets_unknown_numbers_are_neutral(dataset: Path) -> None:
    with serve(dataset) as url:
        transaction = ask(url, "eth_getTransactionByHash", "0x" + "b2" * 32)
        assert (transaction["nonce"], transaction["value"]) == ("0x0", "0x0")
        typed = ask(url, "eth_getTransactionByHash", "0x" + "b1" * 32)
        assert (typed["type"], typed["maxFeePerGas"], typed["value"]) == (
            "0x2",
            "0x3b9aca00",
            "0x5",
        )


def test_a_data_sets_transactions_of_unknown_sender_are_left_out(dataset: Path) -> None:
    _, left_out = open_chain(dataset)
    assert left_out == 1
    with serve(dataset) as url:
        assert ask(url, "eth_getTransactionByHash", UNKNOWN_HASH) == NOT_RECORDED
        assert ask(url, "eth_getBlockByNumber", "0x9", False) == NOT_RECORDED


def test_nonces_of_a_data_set_are_served_only_for_complete_blocks(dataset: Path) -> None:
    with serve(dataset) as url:
        # Block 10 is not complete: the sender may have sent more in it.
        assert ask(url, "eth_getTransactionCount", SENDER, "0x9") == NOT_RECORDED
        assert ask(url, "eth_getTransactionCount", SENDER, "0xb") == "0x4"


def test_a_data_sets_token_list_answers_calls(dataset: Path) -> None:
    with serve(dataset) as url:
        client = JsonRpcClient(url)
        info = token_infos(client, [TOKEN])[TOKEN]
        assert not isinstance(info, Exception)
        assert (info.name, info.symbol, info.decimals) == ("Recorded", "RCT", 6)
        with pytest.raises(RequestRefused, match="not in the recording"):
            token_infos(client, [TOKEN, SENDER])


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_what_it_serves_and_stops_immediately(
    dataset: Path, number: signal.Signals
) -> None:
    command = [
        sys.executable,
        "-m",
        "src.chain.replay",
        "--data",
        str(dataset),
        "--port",
        "0",
    ]
    with subprocess.Popen(
        supervised(command), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(7)]
        url = said[3].strip().removeprefix("export JSON_RPC_URL=")
        assert ask(url, "eth_chainId") == "0x1"
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
    assert f"Replaying chain 1 at {url}: 2 blocks (10-11), 3 transactions" in said[0]
    assert said[1].startswith("1 more are not served")
    assert said[3:] == [
        f"  export JSON_RPC_URL={url}\n",
        f"  npm run tx -- 0x{'b1' * 32} --nocache\n",
        "  npm run block -- 11 --nocache\n",
        "  npm run range -- 10..11 --nocache\n",
    ]


def truncate(folder: Path) -> None:
    file = folder / "transfers.parquet"
    file.write_bytes(file.read_bytes()[:-9])


def drop_column(folder: Path) -> None:
    file = folder / "transactions.parquet"
    pq.write_table(pq.read_table(file).drop_columns("gas_price"), file)


@pytest.mark.parametrize(
    ("spoil", "problem"), [(truncate, "transfers.parquet"), (drop_column, "gas_price")]
)
def test_a_damaged_data_set_is_an_error_that_names_it(
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    problem: str,
) -> None:
    spoil(dataset)
    assert main(["--data", str(dataset), "--port", "0"]) == 1
    assert problem in capsys.readouterr().err


def test_the_error_for_an_unknown_folder_names_the_supported_kinds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path), "--port", "0"]) == 1
    assert "npm run record" in capsys.readouterr().err


def test_an_empty_recording_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_writer(tmp_path, 1):
        pass
    assert main(["--data", str(tmp_path), "--port", "0"]) == 1
    assert "no block" in capsys.readouterr().err


def test_a_port_in_use_is_an_error_that_names_the_option(
    small: str, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = small.rsplit(":", 1)[1]
    assert main(["--data", str(dataset), "--port", port]) == 1
    assert "--port" in capsys.readouterr().err
