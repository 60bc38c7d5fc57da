"""Every operation with every outcome, one row per case, for the oracle and the apply script alike.

A case is a list of batches, a batch a list of `<outcome> <operation>`. A batch that begins with `ROTATE` opens
the next dedupe window. Each case starts after `SETUP`, so its first own entry is number 4.
"""

from dataclasses import dataclass, field
from typing import Final

MAX: Final = 2**53 - 1
ROTATE: Final = "rotate"
SEQ_FIRST: Final = 4

SETUP: Final = [
    [f"+ o - {account} - 0 USD" for account in ("alice", "bob", "ice", "gone", "rich", "snow")]
    + ["+ o - line 500 0 USD"],
    [
        "+ t S1 @mint alice 1000 USD",
        "+ t S2 @mint bob 1000 USD",
        "+ t S3 @mint snow 1000 USD",
        f"+ t S4 @bottom rich {MAX} USD",
    ],
    ["+ f - ice freeze 0 -", "+ f - snow freeze 0 -", "+ f - gone close 0 -"],
]


@dataclass(frozen=True)
class Case:
    """`balances` and `seq` are expected at the end; accounts are in USD."""

    name: str
    batches: list[list[str]]
    balances: dict[str, int] = field(default_factory=dict)
    seq: int | None = None


NOTES = [
    Case("enough is left", [['+ t T1 alice bob 400 USD {"min":600}']], {"alice": 600}),
    Case("a cent too little is left", [['i t T1 alice bob 400 USD {"min":601}']], {"alice": 1000}),
    Case(
        "too little is left, across partitions",
        [['i d T1 alice far 400 USD #k1 {"min":601}']],
        {"alice": 1000},
    ),
    Case(
        "the second of two", [['+ t T1 alice bob 300 USD {"min":1}', 'i t T2 alice bob 300 USD {"min":401}']]
    ),
    Case("nothing is asked of a system account", [['+ t T1 @bank bob 5 USD {"min":9}']], {"bob": 1005}),
    Case("frozen before too little", [['f t T1 snow bob 1 USD {"min":5000}']]),
    Case(
        "a reference is part of the body",
        [['+ t T1 alice bob 1 USD {"ref":"a, b"}'], ["! t T1 alice bob 1 USD"]],
    ),
    Case(
        "the same reference",
        [['+ t T1 alice bob 1 USD {"ref":"\u00e9"}'], ['= t T1 alice bob 1 USD {"ref":"\u00e9"}']],
    ),
    Case("another key, the same body", [["+ t T1 alice bob 1 USD #k1"], ["= t T1 alice bob 1 USD #k2"]]),
]

OPEN_ACCOUNT = [
    Case("open", [["+ o - new - 0 USD"]], {"new": 0}),
    Case(
        "open with limit",
        [["+ o - new 70 0 USD", "+ t T1 new bob 70 USD", "i t T2 new bob 1 USD"]],
        {"new": -70},
    ),
    Case("open with the largest limit", [[f"+ o - new {MAX} 0 USD", "+ t T1 new bob 70 USD"]], {"new": -70}),
    Case("open again", [["= o - alice - 0 USD"]], seq=3),
    Case("open again with the same limit", [["= o - line 500 0 USD", "= o - alice 0 0 USD"]], seq=3),
    Case(
        "open again with another limit",
        [["! o - line 400 0 USD", "! o - line 0 0 USD", "! o - alice 1 0 USD"]],
    ),
    Case("open again without a limit", [["= o - line - 0 USD"]], seq=3),
    Case("open twice in a batch", [["+ o - new 5 0 USD", "= o - new 5 0 USD", "! o - new 6 0 USD"]]),
    Case("open another currency", [["+ o - alice 9 0 EUR", "+ o - alice 0 0 JPY", "= o - alice 9 0 EUR"]]),
    Case("a limit holds in its own currency", [["+ o - line - 0 EUR", "i t T1 line @fees 1 EUR"]]),
    Case(
        "limits of two currencies", [["+ o - line 9 0 EUR", "= o - line 500 0 USD", "! o - line 500 0 EUR"]]
    ),
    Case("open on a closed account", [["c o - gone - 0 EUR"]], seq=3),
    Case("known before closed", [["= o - gone - 0 USD", "! o - gone 7 0 USD"]], seq=3),
    Case("open on a frozen account", [["+ o - ice 7 0 EUR", "f t T1 ice @fees 1 EUR"]]),
]

TRANSFER = [
    Case("transfer", [["+ t T1 alice bob 400 USD"]], {"alice": 600, "bob": 1400}),
    Case("transfer everything", [["+ t T1 alice bob 1000 USD"]], {"alice": 0}),
    Case("transfer too much", [["i t T1 alice bob 1001 USD"]], {"alice": 1000}, seq=4),
    Case("transfer down to the limit", [["+ t T1 line bob 500 USD"]], {"line": -500}),
    Case(
        "transfer below the limit", [["i t T1 line bob 501 USD", "+ t T2 line bob 499 USD"]], {"line": -499}
    ),
    Case("nobody pays", [["a t T1 nobody bob 1 USD"]]),
    Case("nobody receives", [["g t T1 alice nobody 1 USD"]]),
    Case("not opened in the currency", [["a t T1 alice bob 1 EUR", "g t T2 @mint bob 1 EUR"]]),
    Case("closed pays", [["c t T1 gone bob 1 USD"]]),
    Case("closed receives", [["k t T1 alice gone 1 USD"]]),
    Case("frozen pays", [["f t T1 snow bob 1 USD"]]),
    Case("frozen receives", [["q t T1 alice snow 1 USD"]]),
    Case("receiver is full", [["l t T1 alice rich 1 USD"]]),
    Case("system account has no bottom", [["+ t T1 @bottom alice 1 USD"]], {"@bottom": -MAX - 1}),
    Case(
        "system account has no top",
        [
            [f"+ t T1 @a @b {MAX} USD", "+ t T2 @c @b 1 USD", f"+ t T3 @a @b {MAX} USD"],
            [f"+ t T4 @a @b {MAX} USD", "+ t T5 @b @a 2 USD"],
        ],
        {"@b": 3 * MAX - 1, "@a": -3 * MAX + 2, "@c": -1},
    ),
    Case(
        "system account goes back into its bounds",
        [
            [f"+ t T1 @a @b {MAX} USD", f"+ t T2 @a @b {MAX} USD"],
            [f"+ t T3 @b @a {MAX} USD", f"+ t T4 @b @a {MAX} USD"],
            [f"+ t T5 @b @a {MAX} USD", f"+ t T6 @b @a {MAX} USD"],
        ],
        {"@b": -2 * MAX, "@a": 2 * MAX},
    ),
    Case(
        "a receiver that is full lets nothing be carried",
        [["l t T1 @bottom rich 1 USD", f"l t T2 @bottom bob {MAX} USD"]],
        {"@bottom": -MAX, "rich": MAX, "bob": 1000},
    ),
    Case(
        "largest amount", [[f"+ t T1 rich @b {MAX} USD", f"+ t T2 @b rich {MAX} USD"]], {"rich": MAX, "@b": 0}
    ),
    Case("system accounts need no opening", [["+ t T1 @x @y 5 CHF"]]),
    Case("from a system account", [["+ t T1 @mint alice 5 USD"]], {"@mint": -3005, "alice": 1005}),
    Case("to a system account", [["+ t T1 alice @fees 5 USD"]], {"@fees": 5, "alice": 995}),
    Case("money received is there in the batch", [["+ t T1 alice bob 1000 USD", "+ t T2 bob line 2000 USD"]]),
    Case("money spent is gone in the batch", [["+ t T1 alice bob 600 USD", "i t T2 alice bob 600 USD"]]),
    Case("opened in the batch", [["g t T1 alice new 1 USD", "+ o - new - 0 USD", "+ t T2 alice new 1 USD"]]),
]

REFUSALS_IN_ORDER = [
    Case("duplicate before unknown", [["a t T1 nobody bob 1 USD"], ["= t T1 nobody bob 1 USD"]]),
    Case("conflict before unknown", [["+ t T1 alice bob 1 USD"], ["! t T1 alice nobody 1 USD"]]),
    Case("unknown before closed", [["g t T1 gone nobody 1 USD", "a t T2 nobody gone 1 USD"]]),
    Case("unknown before frozen", [["g t T1 snow nobody 1 USD", "a t T2 nobody snow 1 USD"]]),
    Case("unknown before insufficient", [["g t T1 alice nobody 1001 USD"]]),
    Case("closed before frozen", [["k t T1 snow gone 1 USD", "c t T2 gone snow 1 USD"]]),
    Case("closed before insufficient", [["c t T1 gone bob 1 USD", "k t T2 alice gone 1001 USD"]]),
    Case("frozen before insufficient", [["f t T1 ice bob 1 USD", "q t T2 alice ice 1001 USD"]]),
    Case("insufficient before limit", [["i t T1 alice rich 1001 USD", "i t T2 bob rich 1001 USD"]]),
    Case("debit: unknown before all", [["a d T1 nobody far 1 USD"], ["= d T1 nobody far 1 USD"]]),
    Case("debit: closed before insufficient", [["c d T1 gone far 1 USD"]]),
    Case("debit: frozen before insufficient", [["f d T1 ice far 1 USD"]]),
    Case(
        "debit: insufficient before limit",
        [[f"+ d T1 @a far {MAX} USD", "i d T2 alice far 1001 USD", "+ d T3 alice far 1 USD"]],
        {"@transit": MAX + 1},
    ),
    Case(
        "credit: frozen before limit",
        [[f"+ c 9.1 @a 0 {MAX} USD", "q c 9.1 snow 1 1 USD", "k c 9.1 gone 2 1 USD"]],
    ),
]

ONCE = [
    Case("repeat", [["+ t T1 alice bob 1 USD"], ["= t T1 alice bob 1 USD"]], {"alice": 999}, seq=4),
    Case("repeat in a batch", [["+ t T1 alice bob 1 USD", "= t T1 alice bob 1 USD"]], {"alice": 999}),
    Case(
        "a decline is an answer",
        [["i t T1 line bob 501 USD"], ["+ t T2 bob line 1 USD", "= t T1 line bob 501 USD"]],
    ),
    Case(
        "another body",
        [
            ["+ t T1 alice bob 1 USD"],
            [
                "! t T1 alice bob 2 USD",
                "! t T1 alice line 1 USD",
                "! t T1 alice bob 1 EUR",
                "! d T1 alice far 1 USD",
            ],
        ],
        {"alice": 999},
        seq=4,
    ),
    Case(
        "another body in a batch",
        [["+ t T1 alice bob 1 USD", "! t T1 alice bob 11 USD", "= t T1 alice bob 1 USD"]],
    ),
    Case(
        "a conflict is not remembered",
        [["+ t T1 alice bob 1 USD", "! t T1 alice bob 2 USD"], ["! t T1 alice bob 2 USD"]],
    ),
    Case("another sender is another transfer", [["+ t T1 alice bob 1 USD", "+ t T1 bob alice 1 USD"]]),
    Case(
        "repeat of a debit",
        [["+ d T1 alice far 1 USD", "= d T1 alice far 1 USD"], ["= d T1 alice far 1 USD"]],
    ),
    Case(
        "repeat before closed",
        [["+ t T1 alice bob 1000 USD"], ["+ f - alice close 0 -"], ["= t T1 alice bob 1000 USD"]],
    ),
    Case("found after one rotation", [["+ t T1 alice bob 1 USD"], [ROTATE, "= t T1 alice bob 1 USD"]], seq=4),
    Case(
        "found in the window before",
        [
            ["+ t T1 alice bob 1 USD"],
            [ROTATE, "+ t T2 alice bob 1 USD"],
            ["= t T1 alice bob 1 USD", "! t T1 alice bob 2 USD"],
        ],
    ),
    Case(
        "forgotten after two rotations",
        [
            ["+ t T1 alice bob 1 USD"],
            [ROTATE, "+ t T2 alice bob 1 USD"],
            [ROTATE, "+ t T1 alice bob 2 USD", "= t T2 alice bob 1 USD"],
        ],
        {"alice": 996},
    ),
    Case(
        "a rotation without effect does not happen",
        [["+ t T1 alice bob 1 USD"], [ROTATE, "= t T1 alice bob 1 USD"], [ROTATE, "= t T1 alice bob 1 USD"]],
        seq=4,
    ),
]

CREDIT = [
    Case("credit", [["+ c 9.1 alice 0 5 USD"]], {"alice": 1005, "@transit": -5}),
    Case("credit twice", [["+ c 9.1 alice 0 5 USD"], ["= c 9.1 alice 0 5 USD"]], {"alice": 1005}, seq=4),
    Case("credit twice in a batch", [["+ c 9.1 alice 0 5 USD", "= c 9.1 alice 0 5 USD"]], {"alice": 1005}),
    Case("a credit is known by its origin alone", [["+ c 9.1 alice 0 5 USD", "= c 9.1 bob 0 6 EUR"]]),
    Case(
        "credits of one entry",
        [["+ c 9.1 alice 0 5 USD", "+ c 9.1 bob 1 5 USD"], ["+ c 9.1 bob 2 5 USD"]],
        {"bob": 1010},
    ),
    Case(
        "idx 1 is not idx 12",
        [["+ c 9.1 alice 12 5 USD", "+ c 9.1 alice 1 5 USD"], ["= c 9.1 bob 1 1 USD", "+ c 9.1 bob 2 1 USD"]],
    ),
    Case(
        "idx 12 is not idx 1",
        [
            ["+ c 9.1 alice 1 5 USD", "+ c 9.1 alice 12 5 USD"],
            ["= c 9.1 bob 12 1 USD", "+ c 9.1 bob 21 1 USD"],
        ],
    ),
    Case("origins differ", [["+ c 9.1 alice 0 5 USD", "+ c 9.11 alice 0 5 USD", "+ c 91.1 alice 0 5 USD"]]),
    Case(
        "credit to nobody",
        [["g c 9.1 nobody 0 5 USD"], ["+ o - nobody - 0 USD", "= c 9.1 nobody 0 5 USD"]],
        {"nobody": 0},
    ),
    Case("credit to closed", [["k c 9.1 gone 0 5 USD"]], {"gone": 0}, seq=4),
    Case("credit to frozen", [["q c 9.1 snow 0 5 USD"], ["+ f - snow unfreeze 0 -", "= c 9.1 snow 0 5 USD"]]),
    Case("credit to full", [["l c 9.1 rich 0 1 USD"]]),
    Case("credit to a system account", [["+ c 9.1 @fees 0 5 USD"]], {"@fees": 5}),
    Case(
        "credit beyond transit",
        [
            [f"+ c 9.1 @a 0 {MAX} USD", "+ c 9.1 alice 1 1 USD"],
            [f"+ c 9.1 @a 2 {MAX} USD", "l c 9.1 rich 3 1 USD"],
        ],
        {"@transit": -2 * MAX - 1, "alice": 1001, "@a": 2 * MAX},
    ),
    Case("found after one rotation", [["+ c 9.1 alice 0 5 USD"], [ROTATE, "= c 9.1 alice 0 5 USD"]]),
    Case(
        "one origin in two windows",
        [
            ["+ c 9.1 alice 0 5 USD"],
            [ROTATE, "+ c 9.1 alice 1 5 USD", "= c 9.1 alice 0 5 USD"],
            ["= c 9.1 alice 1 5 USD"],
            [ROTATE, "+ c 9.1 alice 0 5 USD", "= c 9.1 alice 1 5 USD"],
        ],
    ),
]

REFUND_AND_SETTLE = [
    Case("debit", [["+ d T1 alice far 5 USD"]], {"alice": 995, "@transit": 5}),
    Case(
        "debit of a system account",
        [["+ d T1 @mint far 5 USD", "+ d T2 @bottom far 5 USD"]],
        {"@mint": -3005, "@bottom": -MAX - 5},
    ),
    Case("debit too much", [["i d T1 alice far 1001 USD"], ["= s 4 - - 0 -"]], seq=4),
    Case(
        "refund", [["+ d T1 alice far 5 USD"], ["+ r T1 alice 4.0.a 5 USD"]], {"alice": 1000, "@transit": 0}
    ),
    Case(
        "refund twice",
        [["+ d T1 alice far 5 USD"], ["+ r T1 alice 4.0.a 5 USD"], ["= r T1 alice 4.0.a 5 USD"]],
        {"alice": 1000},
    ),
    Case(
        "refund twice in a batch",
        [["+ d T1 alice far 5 USD"], ["+ r T1 alice 4.0.a 5 USD", "= r T1 alice 4.0.c 5 USD"]],
        {"alice": 1000},
    ),
    Case(
        "refund of one debit of several",
        [
            ["+ d T1 alice far 5 USD", "+ d T2 alice far 6 USD"],
            ["+ r T2 alice 4.1.f 6 USD", "= r T2 alice 4.1.f 6 USD"],
        ],
        {"alice": 995, "@transit": 5},
    ),
    Case(
        "a refunded debit repeats",
        [["+ d T1 alice far 5 USD"], ["+ r T1 alice 4.0.a 5 USD", "= d T1 alice far 5 USD"]],
    ),
    Case("refund of an entry that never was", [["= r T1 alice 77.0.a 5 USD"]], {"alice": 1000}, seq=3),
    Case("refund of the own entry", [["+ d T1 alice far 5 USD", "= r T1 alice 4.0.a 5 USD"]], {"alice": 995}),
    Case(
        "refund after settle",
        [["+ d T1 alice far 5 USD"], ["+ s 4 - - 0 -"], ["= r T1 alice 4.0.a 5 USD"]],
        {"alice": 995},
    ),
    Case(
        "refund after settle in a batch",
        [["+ d T1 alice far 5 USD"], ["+ s 4 - - 0 -", "= r T1 alice 4.0.a 5 USD"]],
        {"alice": 995},
    ),
    Case(
        "refund to frozen",
        [["+ d T1 alice far 5 USD"], ["+ f - alice freeze 0 -", "+ r T1 alice 4.0.a 5 USD"]],
        {"alice": 1000},
    ),
    Case(
        "refund to what could not be closed",
        [["+ d T1 alice far 1000 USD"], ["p f - alice close 0 -", "+ r T1 alice 4.0.a 1000 USD"]],
        {"alice": 1000},
    ),
    Case(
        "refund to full",
        [
            ["+ d T1 rich far 5 USD", "+ t T2 bob rich 5 USD"],
            ["l r T1 rich 4.0.a 5 USD"],
            ["+ t T3 rich bob 5 USD", "+ r T1 rich 4.0.a 5 USD"],
        ],
        {"rich": MAX, "bob": 1000},
        seq=5,
    ),
    Case(
        "refund beyond transit",
        [
            ["+ d T1 alice far 5 USD"],
            [f"+ c 9.1 @a 0 {MAX} USD", "+ c 9.1 @b 1 5 USD", "+ r T1 alice 4.0.a 5 USD"],
        ],
        {"alice": 1000, "@transit": -MAX - 5},
    ),
    Case(
        "refund to a system account beyond its bounds",
        [
            [f"+ d T1 @a far {MAX} USD"],
            [f"+ t T2 @c @a {MAX} USD"],
            [f"+ t T3 @c @a {MAX} USD"],
            [f"+ r T1 @a 4.0.a {MAX} USD"],
        ],
        {"@a": 2 * MAX, "@transit": 0, "@c": -2 * MAX},
    ),
    Case(
        "refund of a system account",
        [["+ d T1 @mint far 5 USD"], ["+ r T1 @mint 4.0.a 5 USD"]],
        {"@mint": -3000},
    ),
    Case(
        "refund of an answer in the window before",
        [["+ d T1 alice far 5 USD"], [ROTATE, "+ r T1 alice 4.0.a 5 USD"], ["= d T1 alice far 5 USD"]],
        {"alice": 1000},
    ),
    Case(
        "refund of a forgotten answer",
        [
            ["+ d T1 alice far 5 USD"],
            [ROTATE, "+ t T2 alice bob 1 USD"],
            [ROTATE, "+ r T1 alice 4.0.a 5 USD"],
        ],
        {"alice": 999},
    ),
    Case(
        "settle", [["+ d T1 alice far 5 USD"], ["+ s 4 - - 0 -"], ["= s 4 - - 0 -"]], {"@transit": 5}, seq=5
    ),
    Case("settle twice in a batch", [["+ d T1 alice far 5 USD"], ["+ s 4 - - 0 -", "= s 4 - - 0 -"]]),
    Case(
        "settle forgets its refunds",
        [["+ d T1 alice far 5 USD"], ["+ r T1 alice 4.0.a 5 USD"], ["+ s 4 - - 0 -"]],
    ),
    Case("settle of the own entry", [["+ d T1 alice far 5 USD", "= s 4 - - 0 -"], ["+ s 4 - - 0 -"]]),
    Case("settle of an entry that never was", [["= s 77 - - 0 -", "= s 3 - - 0 -"]], seq=3),
    Case(
        "settle of one entry leaves the others",
        [["+ d T1 alice far 5 USD"], ["+ d T2 alice far 5 USD"], ["+ s 4 - - 0 -"], ["+ s 5 - - 0 -"]],
    ),
]

SET_FLAGS = [
    Case(
        "freeze and unfreeze",
        [
            [
                "+ f - alice freeze 0 -",
                "= f - alice freeze 0 -",
                "+ f - alice unfreeze 0 -",
                "= f - alice unfreeze 0 -",
            ]
        ],
    ),
    Case(
        "freeze holds in the batch",
        [
            [
                "+ f - alice freeze 0 -",
                "f t T1 alice bob 1 USD",
                "+ f - alice unfreeze 0 -",
                "+ t T2 alice bob 1 USD",
            ]
        ],
    ),
    Case("unfreeze an ordinary account", [["= f - alice unfreeze 0 -"]], seq=3),
    Case(
        "freeze keeps limits",
        [
            ["+ f - line freeze 0 -", "= o - line 500 0 USD"],
            ["+ f - line unfreeze 0 -", "+ t T1 line bob 500 USD"],
        ],
    ),
    Case(
        "flags of nobody",
        [
            ["a f - nobody freeze 0 -", "a f - nobody unfreeze 0 -", "a f - nobody close 0 -"],
            ["a f - nobody closing 0 -", "a f - nobody close.3 0 -", "a f - nobody reopen.3 0 -"],
        ],
        seq=3,
    ),
    Case("close an empty account", [["+ f - line close 0 -", "= f - line close 0 -"]]),
    Case("close with money", [["z f - alice close 0 -"]], seq=3),
    Case("close with debt", [["+ t T1 line bob 1 USD", "z f - line close 0 -"]]),
    Case(
        "close with money in another currency",
        [["+ o - line - 0 EUR", "+ t T1 @m line 1 EUR", "z f - line close 0 -"]],
    ),
    Case(
        "close with money known for long",
        [["+ o - line - 0 EUR", "+ t T1 @m line 1 EUR"], ["z f - line close 0 -"]],
    ),
    Case(
        "close emptied in the batch",
        [["+ t T1 alice bob 1000 USD", "+ f - alice close 0 -", "k t T2 bob alice 1 USD"]],
    ),
    Case("close a frozen account", [["+ f - ice close 0 -", "z f - snow close 0 -"]]),
    Case(
        "close while anything of the partition is open",
        [
            ["+ d T1 alice far 5 USD", "p f - line close 0 -"],
            ["p f - line close 0 -"],
            ["+ s 4 - - 0 -", "p f - line close 0 -"],
            ["+ f - line close 0 -"],
        ],
    ),
    Case(
        "close by its own freeze",
        [
            ["+ d T1 alice far 5 USD", "+ f - line closing 0 -", "f t T2 line bob 1 USD"],
            ["+ d T3 bob far 5 USD"],
            ["p f - line close.4 0 -", "= f - line reopen.5 0 -"],
            ["+ s 4 - - 0 -", "p f - line close.4 0 -"],
            ["p f - line close.5 0 -", "p f - line close 0 -", "+ f - line close.4 0 -"],
            [
                "= f - line close.4 0 -",
                "= f - line close 0 -",
                "c f - line closing 0 -",
                "c f - line reopen.4 0 -",
            ],
        ],
    ),
    Case(
        "unfrozen and paid while it is being closed",
        [
            ["+ d T1 bob far 5 USD"],
            ["+ f - line closing 0 -"],
            ["+ f - line unfreeze 0 -", "+ t T2 alice line 5 USD", "+ d T3 line far 5 USD"],
            ["+ s 4 - - 0 -"],
            ["p f - line close.5 0 -", "p f - line close 0 -", "= f - line reopen.5 0 -"],
            ["+ r T3 line 6.2.a 5 USD", "z f - line close.5 0 -"],
        ],
        {"line": 5},
    ),
    Case(
        "frozen by somebody while it is being closed",
        [
            ["+ f - line closing 0 -", "+ f - line freeze 0 -", "= f - line freeze 0 -"],
            ["p f - line close.4 0 -", "= f - line reopen.4 0 -", "f t T1 line bob 1 USD"],
        ],
    ),
    Case(
        "what a close leaves is what was",
        [
            ["+ f - line closing 0 -", "+ f - line reopen.4 0 -", "+ t T1 line bob 500 USD"],
            ["+ f - ice closing 0 -", "+ f - ice closing 0 -", "+ f - ice reopen.5 0 -"],
            ["q t T2 @mint ice 1 USD", "= f - ice freeze 0 -"],
        ],
        {"line": -500},
    ),
    Case(
        "of two closes the later one holds",
        [
            ["+ f - line closing 0 -"],
            ["+ f - line closing 0 -"],
            ["p f - line close.4 0 -", "= f - line reopen.4 0 -", "+ f - line close.5 0 -"],
        ],
    ),
    Case(
        "a limit given while it is being closed",
        [
            [
                "+ f - alice closing 0 -",
                "+ o - alice 7 0 EUR",
                "+ f - alice reopen.4 0 -",
                "= o - alice 7 0 EUR",
            ]
        ],
    ),
    Case(
        "closed stays closed",
        [["c f - gone freeze 0 -", "c f - gone unfreeze 0 -", "= f - gone close 0 -"]],
        seq=3,
    ),
    Case(
        "declines stand in an entry that others make",
        [["z f - alice close 0 -", "c o - gone - 0 EUR", "+ t T1 alice bob 1 USD"]],
        seq=4,
    ),
]

PROBE = [
    Case("a probe is an entry that changes nothing", [["+ n doctor - - 0 -"]], {"alice": 1000}, seq=4),
    Case("probes are not remembered", [["+ n doctor - - 0 -", "+ n doctor - - 0 -"]] * 2, seq=5),
    Case(
        "a probe beside others",
        [["+ t T1 alice bob 1 USD", "+ n api - - 0 -", "f t T2 ice bob 1 USD"]],
        {"alice": 999, "bob": 1001},
        seq=4,
    ),
    Case("a probe makes an entry of repeats", [["= o - alice - 0 USD", "+ n api - - 0 -"]], seq=4),
    Case("a probe opens a window", [[ROTATE, "+ n doctor - - 0 -"], ["+ t T1 alice bob 1 USD"]]),
]

CASES: Final = [
    *NOTES,
    *OPEN_ACCOUNT,
    *TRANSFER,
    *REFUSALS_IN_ORDER,
    *ONCE,
    *CREDIT,
    *REFUND_AND_SETTLE,
    *SET_FLAGS,
    *PROBE,
]


def rows(batch: list[str]) -> tuple[bool, str, list[str]]:
    """Whether the batch rotates, its outcomes, its operations."""
    rotates = batch[0] == ROTATE
    operations = batch[1:] if rotates else batch
    return rotates, "".join(row[0] for row in operations), [row[2:] for row in operations]
