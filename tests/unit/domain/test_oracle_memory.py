"""The packer and the oracle compute the memory of transfers independently, with the same result."""

from hypothesis import given
from hypothesis import strategies as st

from wallet_engine.domain import memory, oracle_memory

_names = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-@", min_size=1, max_size=64
)
_ids = st.text(memory._DIGITS, min_size=22, max_size=22)
_seqs = st.one_of(st.integers(1, 200), st.integers(1, 2**53))
_idxs = st.integers(0, 1535)


@given(_names, _ids)
def test_the_field_of_a_transfer(payer: str, transaction: str) -> None:
    assert oracle_memory.field_of_transfer(payer, transaction) == memory.transfer_field(payer, transaction)


@given(_names, st.text(max_size=80), st.text(max_size=80))
def test_the_fingerprint_of_a_body(payer: str, body: str, note: str) -> None:
    assert oracle_memory.fingerprint_of(payer, body, note) == memory.transfer_fingerprint(payer, body, note)


@given(_seqs, _idxs, _names, st.sampled_from("+acfil"))
def test_an_answer(seq: int, idx: int, payer: str, outcome: str) -> None:
    fingerprint = oracle_memory.fingerprint_of(payer, "bob 5 USD")
    text = oracle_memory.answer_text(outcome, seq, fingerprint, idx)
    assert text == memory.TransferRecord(outcome, fingerprint, seq, idx).text()
    assert oracle_memory.fingerprint_in(text) == fingerprint


@given(st.integers(0, 16383), _seqs, _idxs, st.sampled_from("+acfl"))
def test_the_place_of_a_credit(partition: int, seq: int, idx: int, outcome: str) -> None:
    place = oracle_memory.place_of_credit(f"{partition}.{seq}", idx)
    assert place == memory.credit_memory(f"{partition}.{seq}", idx)
    assert oracle_memory.credit_in(f"{place[1]}{outcome}", place[1]) == outcome
    assert oracle_memory.credit_in("", place[1]) is None
