"""Operations on holds with every outcome, one row per case, as in `cases.py`. `F1` is the field of (alice, T1)."""

import re
from typing import Final

from lua.cases import MAX, ROTATE, Case

from wallet_engine.domain.memory import transfer_field

#: A week, and no time at all, in milliseconds.
LONG: Final = 604_800_000
NONE: Final = 0
_placeholder: Final = re.compile(r"(?<![A-Za-z0-9+/])F([0-9])(?![A-Za-z0-9+/])")


def _fields(row: str) -> str:
    return _placeholder.sub(lambda match: transfer_field("alice", f"T{match[1]}"), row)


def case(name: str, *batches: list[str], seq: int | None = None, **balances: int) -> Case:
    return Case(name, [[_fields(row) for row in batch] for batch in batches], balances, seq)


PLACED: Final = [f"+ h T1 alice -|{LONG} 400 USD"]
FOR_BOB: Final = [f"+ h T1 alice bob|{LONG} 400 USD"]
OVERDUE: Final = [f"+ h T1 alice -|{NONE} 400 USD"]

HOLD: Final = [
    case(
        "what is held cannot be spent",
        PLACED,
        ["i t T2 alice bob 601 USD", "+ t T3 alice bob 600 USD"],
        alice=0,
    ),
    case("a hold twice", PLACED, [f"= h T1 alice -|{LONG} 400 USD"], seq=4, alice=600),
    case("a hold twice in a batch", [PLACED[0], f"= h T1 alice -|{LONG} 400 USD"], alice=600),
    case("the same id for another hold", PLACED, [f"! h T1 alice bob|{LONG} 400 USD"], alice=600),
    case("the same id for a transfer", PLACED, ["! t T1 alice bob 400 USD"], alice=600),
    case(
        "a transfer's id for a hold",
        ["+ t T1 alice bob 400 USD"],
        [f"! h T1 alice -|{LONG} 400 USD"],
        alice=600,
    ),
    case(
        "a hold is known longer than answers are",
        PLACED,
        [ROTATE, "+ t T2 alice bob 1 USD"],
        [ROTATE, "+ t T3 alice bob 1 USD"],
        [f"= h T1 alice -|{LONG} 400 USD", f"! h T1 alice -|{LONG} 401 USD"],
        alice=598,
    ),
    case(
        "more than there is",
        [f"i h T1 alice -|{LONG} 1001 USD"],
        [f"= h T1 alice -|{LONG} 1001 USD"],
        alice=1000,
    ),
    case(
        "within the overdraft limit",
        [f"+ h T1 line -|{LONG} 500 USD", f"i h T2 line -|{LONG} 1 USD"],
        line=-500,
    ),
    case("nobody", [f"a h T1 nobody -|{LONG} 1 USD"]),
    case("an account of another currency", [f"a h T1 alice -|{LONG} 1 EUR"]),
    case("closed before all else", [f"c h T1 gone -|{LONG} 1 USD"]),
    case("frozen before the money", [f"f h T1 ice -|{LONG} 1 USD"]),
    case(
        "as many as an account may have open",
        [f"+ h M{number} alice -|{LONG} 1 USD" for number in range(999)],
        [f"+ h T1 alice -|{LONG} 1 USD", f"m h T2 alice -|{LONG} 1 USD"],
        ["+ v T1 alice - 0 USD", f"+ h T3 alice -|{LONG} 1 USD"],
        alice=0,
    ),
]

INCREASE: Final = [
    case(
        "more",
        PLACED,
        ["+ i T2 alice F1 100 USD"],
        ["= i T2 alice F1 100 USD", "! i T2 alice F1 101 USD"],
        alice=500,
    ),
    case("more than there is", PLACED, ["i i T2 alice F1 601 USD"], alice=600),
    case("of none", ["h i T2 alice F1 1 USD"], ["= i T2 alice F1 1 USD"]),
    case("of nobody", ["a i T2 nobody F1 1 USD"]),
    case("of another's", PLACED, ["h i T2 bob F1 1 USD"]),
    case("of a voided one", PLACED, ["+ v T1 alice - 0 USD", "o i T2 alice F1 1 USD"], alice=1000),
    case("of an overdue one", OVERDUE, ["x i T2 alice F1 1 USD"], alice=600),
    case("frozen", PLACED, ["+ f - alice freeze 0 -"], ["f i T2 alice F1 1 USD"]),
    case("closed", ["c i T2 gone F1 1 USD"]),
    case(
        "while a final capture is under way",
        PLACED,
        ["+ q T2 alice far|F1|f|- 400 USD"],
        ["b i T3 alice F1 1 USD"],
    ),
    case("in another currency", PLACED, ["+ o - alice - 0 EUR"], ["s i T2 alice F1 1 EUR"]),
    case(
        "past what a number holds",
        [f"+ h T1 rich -|{LONG} {MAX} USD", "+ t T2 alice rich 9 USD"],
        [f"l i T3 rich {transfer_field('rich', 'T1')} 1 USD"],
    ),
]

CAPTURE: Final = [
    case("all of it", PLACED, ["+ k T2 alice bob|F1|f|- 400 USD"], alice=600, bob=1400),
    case(
        "a part, and the rest is released", PLACED, ["+ k T2 alice bob|F1|f|150 150 USD"], alice=850, bob=1150
    ),
    case(
        "in parts",
        PLACED,
        ["+ k T2 alice bob|F1|p|150 150 USD", "+ k T3 alice bob|F1|p|100 100 USD"],
        ["e k T4 alice bob|F1|p|151 151 USD", "+ k T5 alice bob|F1|p|- 150 USD"],
        ["o k T6 alice bob|F1|p|1 1 USD"],
        alice=600,
        bob=1400,
    ),
    case(
        "once",
        PLACED,
        [
            "+ k T2 alice bob|F1|f|- 400 USD",
            "= k T2 alice bob|F1|f|- 400 USD",
            "! k T2 alice bob|F1|f|400 400 USD",
        ],
        ["= k T2 alice bob|F1|f|- 0 USD"],
        bob=1400,
    ),
    case(
        "two captures of all at once",
        PLACED,
        ["+ k T2 alice bob|F1|f|- 400 USD", "o k T3 alice bob|F1|f|- 400 USD"],
    ),
    case(
        "for the one it is held for",
        FOR_BOB,
        ["d k T2 alice ice|F1|f|- 400 USD", "+ k T3 alice bob|F1|f|- 400 USD"],
    ),
    case(
        "for the account whose name says nobody elsewhere",
        ["+ o - - - 0 USD", f"+ h T1 alice =-|{LONG} 400 USD"],
        ["d k T2 alice bob|F1|f|- 400 USD", "+ k T3 alice -|F1|p|- 400 USD"],
        **{"-": 400},
    ),
    case("more than is held", PLACED, ["e k T2 alice bob|F1|f|401 401 USD"], alice=600),
    case("of what has changed since it was looked at", PLACED, ["s k T2 alice bob|F1|f|- 399 USD"], seq=4),
    case("of none", ["h k T2 alice bob|F1|f|- 0 USD"]),
    case("of a voided one", PLACED, ["+ v T1 alice - 0 USD", "o k T2 alice bob|F1|f|- 0 USD"], alice=1000),
    case(
        "of an overdue one",
        OVERDUE,
        ["x k T2 alice bob|F1|f|- 400 USD"],
        ["+ e T1 alice - 0 USD"],
        alice=1000,
    ),
    case("of one that has expired", OVERDUE, ["+ e T1 alice - 0 USD", "x k T2 alice bob|F1|f|- 400 USD"]),
    case("frozen payer", PLACED, ["+ f - alice freeze 0 -"], ["f k T2 alice bob|F1|f|- 400 USD"]),
    case("closed payer", ["c k T2 gone bob|F1|f|- 0 USD"]),
    case("unknown payer", ["a k T2 nobody bob|F1|f|- 0 USD"]),
    case(
        "refused receivers leave the hold as it was",
        PLACED,
        [
            "g k T2 alice nobody|F1|f|- 400 USD",
            "k k T3 alice gone|F1|f|- 400 USD",
            "q k T4 alice ice|F1|f|- 400 USD",
        ],
        ["l k T5 alice rich|F1|f|- 400 USD", "+ k T6 alice @fees|F1|f|- 400 USD"],
        alice=600,
    ),
    case(
        "as often as a hold may be captured",
        PLACED,
        [f"+ k P{number} alice bob|F1|p|1 1 USD" for number in range(50)],
        ["m k T2 alice bob|F1|f|- 350 USD"],
        alice=600,
    ),
    case(
        "while a final one is under way",
        PLACED,
        ["+ q T2 alice far|F1|f|1 1 USD"],
        ["b k T3 alice bob|F1|f|- 1 USD"],
    ),
]

CAPTURE_ACROSS: Final = [
    case(
        "to another partition, and the rest is released behind it",
        PLACED,
        ["+ q T2 alice far|F1|f|150 150 USD"],
        ["+ l T2 alice 5.0|F1 0 USD", "+ s 5 - - 0 -"],
        ["= l T2 alice 5.0|F1 0 USD", "= q T2 alice far|F1|f|150 150 USD"],
        alice=850,
    ),
    case(
        "refused there: the hold is as it was",
        PLACED,
        ["+ q T2 alice far|F1|f|- 400 USD"],
        ["+ u T2 alice 5.0.a|F1 400 USD", "= u T2 alice 5.0.a|F1 400 USD"],
        ["= q T2 alice far|F1|f|- 400 USD", "+ k T3 alice bob|F1|f|- 400 USD"],
        alice=600,
        bob=1400,
    ),
    case(
        "refused there, and told so again later: the hold gets its money once",
        PLACED,
        ["+ q T2 alice far|F1|p|100 100 USD"],
        ["+ u T2 alice 5.0.a|F1 100 USD"],
        ["= u T2 alice 5.0.a|F1 100 USD"],
        ["= u T2 alice 5.0.c|F1 100 USD", "+ k T3 alice bob|F1|f|- 400 USD"],
        alice=600,
        bob=1400,
    ),
    case(
        "a part refused when the hold was voided: the money is available again",
        PLACED,
        ["+ q T2 alice far|F1|p|100 100 USD"],
        ["+ v T1 alice - 0 USD"],
        ["+ u T2 alice 5.0.c|F1 100 USD"],
        alice=1000,
    ),
    case(
        "a part refused when others were captured",
        PLACED,
        ["+ q T2 alice far|F1|p|100 100 USD", "+ q T3 alice far|F1|p|100 100 USD"],
        ["+ u T2 alice 5.0.c|F1 100 USD", "+ k T4 alice bob|F1|f|- 300 USD"],
        ["+ s 5 - - 0 -"],
        alice=600,
        bob=1300,
    ),
    case("refused, of an entry that is not open", PLACED, ["= u T2 alice 4.0.a|F1 400 USD"]),
    case(
        "not the capture that ends it",
        PLACED,
        ["+ q T2 alice far|F1|p|1 1 USD"],
        ["= l T2 alice 5.0|F1 0 USD"],
    ),
    case(
        "ended in another currency",
        PLACED,
        ["+ o - alice - 0 EUR", "+ q T2 alice far|F1|f|1 1 USD"],
        ["s l T2 alice 5.1|F1 0 EUR"],
    ),
    case(
        "no room for what comes back to a hold that has ended",
        PLACED,
        [
            "+ q T2 alice far|F1|p|100 100 USD",
            "+ v T1 alice - 0 USD",
            f"+ t T9 @bottom alice {MAX - 900} USD",
        ],
        ["l u T2 alice 5.0.a|F1 100 USD"],
        alice=MAX,
    ),
    case(
        "what comes back has its room in the hold",
        [f"+ h T1 alice -|{LONG} 400 USD", "+ q T2 alice far|F1|p|400 400 USD"],
        ["+ u T2 alice 4.1.a|F1 400 USD"],
        alice=600,
    ),
    *[
        case(name, PLACED, [row])
        for name, row in (
            ("unknown", "a q T2 nobody far|F1|f|- 0 USD"),
            ("closed", "c q T2 gone far|F1|f|- 0 USD"),
            ("frozen", "f q T2 ice far|F1|f|- 0 USD"),
            ("none", "h q T2 alice far|F2|f|- 0 USD"),
            ("stale", "s q T2 alice far|F1|f|- 1 USD"),
            ("too much", "e q T2 alice far|F1|f|401 401 USD"),
        )
    ],
    case("ended before", PLACED, ["+ v T1 alice - 0 USD"], ["o q T2 alice far|F1|f|- 0 USD"]),
    case("overdue", OVERDUE, ["x q T2 alice far|F1|f|- 400 USD"]),
    case("elsewhere than it is held for", FOR_BOB, ["d q T2 alice far|F1|f|- 400 USD"]),
    case("two final ones", PLACED, ["+ q T2 alice far|F1|f|1 1 USD", "b q T3 alice far|F1|f|- 399 USD"]),
    case(
        "fifty",
        PLACED,
        [f"+ q P{number} alice far|F1|p|1 1 USD" for number in range(50)],
        ["m q T2 alice far|F1|f|- 350 USD"],
    ),
    case("another body", PLACED, ["+ q T2 alice far|F1|f|1 1 USD", "! q T2 alice far|F1|p|1 1 USD"]),
]

VOID: Final = [
    case("all of it", PLACED, ["+ v T1 alice - 0 USD"], ["= v T1 alice - 0 USD"], alice=1000),
    case("what is left of it", PLACED, ["+ k T2 alice bob|F1|p|1 1 USD", "+ v T1 alice - 0 USD"], alice=999),
    case("frozen", PLACED, ["+ f - alice freeze 0 -", "+ v T1 alice - 0 USD"], alice=1000),
    case("none", ["h v T1 alice - 0 USD"]),
    case("nobody", ["a v T1 nobody - 0 USD"]),
    case("captured", PLACED, ["+ k T2 alice bob|F1|f|- 400 USD"], ["o v T1 alice - 0 USD"], alice=600),
    case(
        "overdue",
        OVERDUE,
        ["+ v T1 alice - 0 USD"],
        ["= v T1 alice - 0 USD", "= e T1 alice - 0 USD"],
        alice=1000,
    ),
    case(
        "while a final capture is under way",
        PLACED,
        ["+ q T2 alice far|F1|f|1 1 USD"],
        ["b v T1 alice - 0 USD"],
    ),
    case("in another currency", PLACED, ["+ o - alice - 0 EUR"], ["s v T1 alice - 0 EUR"]),
    case("not yet", PLACED, ["= e T1 alice - 0 USD"], alice=600),
    case("expired", OVERDUE, ["+ e T1 alice - 0 USD"], ["= e T1 alice - 0 USD"], alice=1000),
    case("expired in another currency", OVERDUE, ["+ o - alice - 0 EUR"], ["s e T1 alice - 0 EUR"]),
    case(
        "forgotten",
        OVERDUE,
        ["+ e T1 alice - 0 USD"],
        [ROTATE, "+ t T2 alice bob 1 USD"],
        [ROTATE, "+ t T3 alice bob 1 USD"],
        ["h v T1 alice - 0 USD"],
    ),
]

FULL: Final = [*PLACED, f"+ t T9 @bottom alice {MAX - 600} USD"]
ROOM: Final = [
    case("more than a number is held", FULL, [f"l h T2 alice -|{LONG} {MAX} USD"], alice=MAX),
    case(
        "no room for what is voided",
        FULL,
        ["l v T1 alice - 0 USD"],
        ["+ t T2 alice bob 400 USD", "+ v T1 alice - 0 USD"],
    ),
    case(
        "no room for what expires",
        [*OVERDUE, f"+ t T9 @bottom alice {MAX - 600} USD"],
        ["l e T1 alice - 0 USD"],
        alice=MAX,
    ),
    case(
        "no room for the rest",
        FULL,
        ["l k T2 alice bob|F1|f|1 1 USD", "+ k T3 alice bob|F1|f|- 400 USD"],
        alice=MAX,
    ),
    case(
        "no room for the rest, elsewhere",
        FULL,
        ["+ q T2 alice far|F1|f|1 1 USD"],
        ["l l T2 alice 5.0|F1 0 USD"],
    ),
]

CLOSE: Final = [
    case(
        "what is held keeps an account from closing",
        PLACED,
        ["+ t T2 alice bob 600 USD", "z f - alice close 0 -"],
    ),
    case(
        "a captured hold does not",
        PLACED,
        ["+ t T2 alice bob 600 USD", "+ k T3 alice bob|F1|f|- 400 USD"],
        ["+ f - alice close 0 -"],
    ),
]

HOLD_CASES: Final = [*HOLD, *INCREASE, *CAPTURE, *CAPTURE_ACROSS, *VOID, *ROOM, *CLOSE]

#: Kind -> every outcome that it can have.
HOLD_OUTCOMES: Final = {
    "h": "+=!acfiml",
    "i": "+=!acfhoxbils",
    "k": "+=!acfgkqhoxbdemls",
    "q": "+=!acfhoxbdems",
    "u": "+=l",
    "l": "+=sl",
    "v": "+=ahobsl",
    "e": "+=sl",
}
