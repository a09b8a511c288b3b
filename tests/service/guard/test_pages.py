"""The pages: screenings, what is held for review, probes."""

import re
import threading
from collections.abc import Iterator

import pytest
import requests
from aiohttp import web

from src.detection.records import Action
from tests.service.guard.guarding import BAD, RAW, Guarded, Node, Script, guard, node
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.integration

SEND = "eth_sendRawTransaction"


@pytest.fixture
def holding(upstream: Node) -> Iterator[Guarded]:
    with guard(upstream.url, Script(Action.REVIEW), hold_review=True) as running:
        yield running


def held(guarded: Guarded, raw: str = RAW) -> str:
    """Send a transaction that is held; the decision's id."""
    error = guarded.call(SEND, raw)["error"]
    assert "held for review" in error["message"]
    return str(error["data"]["decision"])


def press(guarded: Guarded, identity: str, verdict: str) -> requests.Response:
    with requests.Session() as browser:
        page = browser.get(f"{guarded.url}/ui/screenings/{identity}", timeout=PATIENCE)
        token = re.search(r'name="csrf" value="([^"]+)"', page.text)
        data = {"csrf": token[1] if token else ""}
        url = f"{guarded.url}/ui/screenings/{identity}/{verdict}"
        return browser.post(url, data=data, timeout=PATIENCE)


def test_the_list_shows_decisions_with_their_outcome(guarded: Guarded) -> None:
    guarded.call(SEND, RAW)
    guarded.call(SEND, BAD)
    text = requests.get(f"{guarded.url}/ui/screenings", timeout=PATIENCE).text
    assert text.index("blocked") < text.index("passed</td>")
    assert "2 screenings, newest first" in text


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("?acton=BLOCK", 422, "Unknown query parameters: acton"),
        ("?action=BLOCK&action=REVIEW", 422, "repeated: action"),
        ("?action=ALLOW", 400, "action"),
        ("/%00", 404, "No screening has this id"),
        (f"/{'9' * 10_000}", 404, "No screening has this id"),
    ],
)
def test_what_a_page_cannot_be_asked_is_named(
    guarded: Guarded, path: str, status: int, said: str
) -> None:
    answer = requests.get(f"{guarded.url}/ui/screenings{path}", timeout=PATIENCE)
    assert answer.status_code == status
    assert said in answer.text


def test_what_the_node_or_a_client_says_is_escaped(upstream: Node) -> None:
    script = Script(Action.BLOCK, problem="<script>alert(1)</script>")
    with guard(upstream.url, script) as guarded:
        identity = guarded.call(SEND, RAW)["error"]["data"]["decision"]
        for path in ("/ui/screenings", f"/ui/screenings/{identity}"):
            text = requests.get(guarded.url + path, timeout=PATIENCE).text
            assert "<script>alert" not in text
            assert "&lt;script&gt;" in text


def test_released_it_is_sent_once(holding: Guarded, upstream: Node) -> None:
    identity = held(holding)
    assert upstream.bodies == []
    page = press(holding, identity, "release")
    assert "eth_sendRawTransaction" in page.text
    assert [call["params"] for call in upstream.calls] == [[RAW]]
    late = press(holding, identity, "release")
    assert late.status_code in {403, 409}
    assert late.headers["content-type"].startswith("text/html")
    assert len(upstream.bodies) == 1


def test_a_client_is_told_if_too_many_others_are_held(
    holding: Guarded, upstream: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.service.guard.decisions.MAX_HELD", 1)
    held(holding)
    error = holding.call(SEND, RAW[:-2] + "cd")["error"]
    assert "dropped" in error["message"]
    assert "send it again later" in error["message"]
    assert [one.outcome for one in holding.stored] == ["dropped", "held"]
    assert upstream.bodies == []


def test_each_attempt_of_a_client_can_be_released_from_its_own_page(
    holding: Guarded, upstream: Node
) -> None:
    """The client and the notification name the decision on that attempt."""
    first, second = held(holding), held(holding)
    press(holding, first, "drop")
    press(holding, second, "release")
    assert len(upstream.bodies) == 1
    assert [one.outcome for one in holding.stored] == ["passed", "dropped"]


def test_two_people_release_it_once(holding: Guarded, upstream: Node) -> None:
    identity = held(holding)
    threads = [
        threading.Thread(target=press, args=(holding, identity, "release")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(upstream.bodies) == 1


def test_dropped_it_is_never_sent(holding: Guarded, upstream: Node) -> None:
    identity = held(holding)
    assert "dropped" in press(holding, identity, "drop").text
    assert press(holding, identity, "release").status_code in {403, 409}
    assert upstream.bodies == []


def test_a_form_without_its_token_does_nothing(holding: Guarded, upstream: Node) -> None:
    identity = held(holding)
    url = f"{holding.url}/ui/screenings/{identity}/release"
    assert requests.post(url, data={}, timeout=PATIENCE).status_code == 403
    assert upstream.bodies == []


def test_the_list_of_the_api_can_be_filtered(guarded: Guarded) -> None:
    guarded.call(SEND, RAW)
    (found,) = requests.get(f"{guarded.url}/screenings", timeout=PATIENCE).json()
    url = f"{guarded.url}/screenings?transaction={found['transaction_hash']}"
    assert requests.get(url, timeout=PATIENCE).json() == [found]
    url = f"{guarded.url}/screenings?transaction=0x{'9' * 64}"
    assert requests.get(url, timeout=PATIENCE).json() == []


def test_it_is_ready_while_the_node_is_on_its_chain(guarded: Guarded) -> None:
    answer = requests.get(f"{guarded.url}/readyz", timeout=PATIENCE)
    assert answer.status_code == 503
    assert answer.json()["problems"] == ["the node does not say its chain"]
    assert requests.get(f"{guarded.url}/healthz", timeout=PATIENCE).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("chain", "problems"), [("0x1", []), ("0x5", ["the node serves chain 5, not 1"])]
)
def test_a_node_that_moves_to_another_chain_is_not_ready(chain: str, problems: list[str]) -> None:
    reply = web.json_response({"jsonrpc": "2.0", "id": 1, "result": chain})
    with node(lambda _body: reply) as upstream, guard(upstream.url) as guarded:
        answer = requests.get(f"{guarded.url}/readyz", timeout=PATIENCE)
    assert answer.json()["problems"] == problems
    assert answer.status_code == (503 if problems else 200)


def test_an_unknown_decision_is_not_found(guarded: Guarded) -> None:
    answer = requests.get(f"{guarded.url}/ui/screenings/nothing", timeout=PATIENCE)
    assert answer.status_code == 404
    assert "No screening has this id" in answer.text
    assert "/ui/alerts" not in answer.text, "the guard has no such page"
    assert requests.get(f"{guarded.url}/nothing", timeout=PATIENCE).status_code == 404
