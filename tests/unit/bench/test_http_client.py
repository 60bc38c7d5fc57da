"""The HTTP client of the benchmark: answers that arrive in pieces, and requests that the server's parser accepts."""

import asyncio
import time
from typing import cast

import pytest

from bench.doors.engine import commands_of, number_text, rows_of
from bench.doors.forms import PLACEHOLDER, form_of
from bench.http_client import HEAD_BYTES_MAX, BadAnswer, Caller, parse_head
from bench.workload import AMOUNT_MINOR_DECLINED, Pair
from wallet_engine.domain.ids import unpack_transaction_id
from wallet_engine.http.fastparse import parse_batch, parse_transfer

PAIRS = [Pair(1, 2, 5), Pair(3, 4, 1234), Pair(5, 6, AMOUNT_MINOR_DECLINED)]
ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n{"a"}'


class Wire:
    """The transport of a caller: keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def caller(answers: list[tuple[int, bytes]]) -> Caller:
    made = Caller(0, lambda _, status, body, latency_s: answers.append((status, body)), lambda _: None)
    made.connection_made(cast(asyncio.BaseTransport, Wire()))
    return made


@pytest.mark.parametrize("size", [1, 2, 7, 50, len(ANSWER) - 1, len(ANSWER)])
def test_an_answer_may_come_in_pieces(size: int) -> None:
    answers: list[tuple[int, bytes]] = []
    made = caller(answers)
    for _ in range(3):
        made.send(b"request", 0.0)
        for start in range(0, len(ANSWER), size):
            made.data_received(ANSWER[start : start + size])
        assert not made.waiting
    assert answers == [(200, b'{"a"}')] * 3


def test_latency_counts_from_the_moment_it_is_given_not_from_sending() -> None:
    latencies: list[float] = []
    made = Caller(0, lambda _, status, body, latency_s: latencies.append(latency_s), lambda _: None)
    made.connection_made(cast(asyncio.BaseTransport, Wire()))
    made.send(b"request", time.perf_counter() - 7.0)
    made.data_received(ANSWER)
    assert latencies[0] >= 7.0


def test_one_request_at_a_time() -> None:
    made = caller([])
    made.send(b"request", 0.0)
    with pytest.raises(RuntimeError, match="waiting=True"):
        made.send(b"another", 0.0)


def test_header_names_have_no_case_and_a_body_may_be_empty() -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    assert parse_head(head) == (503, len(head), 0)
    assert parse_head(head[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\ncontent-length: 5\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"y" * (HEAD_BYTES_MAX + 1),
    ],
    ids=["no length", "no number", "no end"],
)
def test_other_answers_are_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_head(data)


def test_a_prepared_batch_is_what_the_server_reads() -> None:
    request = form_of("uniform", 3).calls(PAIRS, "h:1")[0].replace(PLACEHOLDER, b"0000abcd")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/transfers/batch HTTP/1.1\r\nHost: h:1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    commands, transaction_ids = parse_batch(body)
    assert [command[:4] for command in commands] == [
        (f"acct-{pair.sender:08d}", f"acct-{pair.receiver:08d}", pair.amount_minor, "USD") for pair in PAIRS
    ]
    assert len(set(transaction_ids)) == 3
    assert all(transaction_id.startswith("0000abcd-") for transaction_id in transaction_ids)


def test_a_prepared_transfer_is_what_the_server_reads() -> None:
    request = form_of("uniform", 1).calls(PAIRS[:1], "h:1")[0].replace(PLACEHOLDER, b"ffffffff")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/wallet/balance_transfer HTTP/1.1\r\n")
    assert parse_transfer(body, None).command.amount_minor == 5


def test_commands_of_the_engine_door_have_fresh_valid_ids() -> None:
    rows = rows_of(PAIRS)
    ids = {command.transaction for number in (0, 1, 2**30 - 1) for command in commands_of(rows, number)}
    assert len(ids) == 9
    assert all(len(transaction) == 22 for transaction in ids)
    assert len(unpack_transaction_id(commands_of(rows, 12345)[0].transaction)) == 36
    assert len({number_text(number) for number in range(0, 2**30, 2**20 + 1)}) == len(
        range(0, 2**30, 2**20 + 1)
    )


SUCCESS = b'{"transaction_id":"x","status":"success"}'
DECLINE = b'{"transaction_id":"x","status":"declined","code":"insufficient_funds"}'


@pytest.mark.parametrize(
    ("status", "body", "single", "counted"),
    [
        (200, b'{"status":"success","transaction_id":"x"}', True, (1, 0)),
        (422, b'{"status":422,"code":"insufficient_funds","retryable":false}', True, (0, 1)),
        (422, b'{"status":422,"code":"account_frozen"}', True, None),
        (503, b'{"status":503,"code":"overloaded"}', True, None),
        (200, b'{"results":[' + b",".join([SUCCESS, DECLINE, SUCCESS]) + b"]}", False, (2, 1)),
        (200, SUCCESS.replace(b"success", b"unknown"), False, (0, 0)),
        (413, b"{}", False, None),
    ],
)
def test_answers_are_counted(status: int, body: bytes, single: bool, counted: tuple[int, int] | None) -> None:
    assert form_of("uniform", 1 if single else 2).counts[0](status, body) == counted
