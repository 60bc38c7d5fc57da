"""Operations on groups with every outcome, one row per case, as in `cases.py`.

`X1{…}` stands for the words of one whose body has the mark `X1`; legs are `alice>bob 400`, USD unless another currency
is said, each with the role of this partition in front: `b` both sides here, `p` and `r` one of them, `n` none.
"""

import re
from typing import Final

from lua.cases import MAX, ROTATE, Case

from wallet_engine.domain.groups import Leg, words
from wallet_engine.domain.memory import transfer_field

_short: Final = re.compile(r"(X[0-9])(?:/([0-9]))?(?: (c|r|a\.\d+\.\w))?\{([^}]*)\}")
_leg: Final = re.compile(r"([prbn])(?:([0-9]+):)? ?(\S+)>(\S+) (\d+)(?: ([A-Z]{3}))?")


def _words(match: re.Match[str]) -> str:
    mark, attempt, word, text = match.groups()
    found = [_leg.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    legs = [
        Leg(leg[1], int(leg[2] or index), leg[3], leg[4], int(leg[5]), leg[6] or "USD")
        for index, leg in enumerate(found)
        if leg
    ]
    assert len(legs) == len(found), text
    return words(mark, int(attempt or 0), word or "-", legs)


def line(row: str) -> str:
    """`+ m T1 alice X1 c{b alice>bob 5}` as an operation's line with its outcome."""
    return f"{_short.sub(_words, row)} 0 -" if row != ROTATE else row


def case(name: str, *batches: list[str], seq: int | None = None, **balances: int) -> Case:
    lines = [[line(row) if "{" in row else row for row in batch] for batch in batches]
    return Case(name, lines, balances, seq)


WHOLE: Final = [
    case(
        "all of it",
        ["+ m T1 alice X1 c{b alice>bob 400, b bob>line 100, b @mint>alice 7, b alice>@fees 3}"],
        alice=604,
        bob=1300,
        line=100,
    ),
    case(
        "again",
        ["+ m T1 alice X1 c{b alice>bob 400}"],
        ["= m T1 alice X1 c{b alice>bob 400}"],
        ["= m T1 alice X1 c{b alice>bob 400}", "! m T1 alice X2 c{b alice>bob 400}"],
        seq=4,
        alice=600,
    ),
    case(
        "twice in a batch",
        ["+ m T1 alice X1 c{b alice>bob 400}", "= m T1 alice X1 c{b alice>bob 400}"],
        alice=600,
    ),
    case(
        "again in the next window",
        ["+ m T1 alice X1 c{b alice>bob 400}"],
        [ROTATE, "= m T1 alice X1 c{b alice>bob 400}", "+ t T9 alice bob 1 USD"],
        alice=599,
    ),
    case(
        "an id is one with those of transfers",
        ["+ t T1 alice bob 1 USD", "+ m T2 alice X1 c{b alice>bob 1}", "+ h T3 alice -|1000 1 USD"],
        ["! m T1 alice X1 c{b alice>bob 1}", "! t T2 alice bob 1 USD", "! m T3 alice X1 c{b alice>bob 1}"],
        ["! h T2 alice -|1000 1 USD"],
    ),
    case(
        "none of it where one cannot be",
        ["i m T1 alice X1 c{b alice>bob 400, b alice>bob 601}"],
        ["= m T1 alice X1 c{b alice>bob 400, b alice>bob 601}"],
        alice=1000,
        bob=1000,
    ),
    case("just enough in order", ["+ m T1 alice X1 c{b alice>bob 400, b alice>bob 600}"], alice=0, bob=2000),
    case(
        "what a leg brings is not there for another",
        ["i m T1 bob X1 c{b bob>alice 1, b alice>line 1001}"],
        alice=1000,
    ),
    case("in the overdraft limit", ["+ m T1 line X1 c{b line>bob 300, b line>bob 200}"], line=-500),
    case("past the overdraft limit", ["i m T1 line X1 c{b line>bob 300, b line>bob 201}"], line=0),
    case(
        "to the overdraft limit, by a sum that no double holds",
        [f"+ t T2 @mint line {MAX} USD"],
        [f"+ m T1 line X1 c{{b line>@a {MAX}, b line>@a 500}}"],
        line=-500,
    ),
    case(
        "one past the overdraft limit, by a sum that no double holds",
        [f"+ t T2 @mint line {MAX - 3} USD"],
        [f"i m T1 line X1 c{{b line>@a {MAX}, b line>@a 498}}"],
        line=MAX - 3,
    ),
    case("nobody pays", ["a m T1 alice X1 c{b alice>bob 1, b nobody>bob 1}"]),
    case("nobody is paid", ["g m T1 alice X1 c{b alice>nobody 1}"]),
    case("of another currency", ["a m T1 alice X1 c{b alice>bob 1, b alice>bob 1 EUR}"]),
    case(
        "of two currencies",
        ["+ o - alice - 0 EUR", "+ o - bob - 0 EUR", "+ t T2 @mint alice 9 EUR"],
        ["+ m T1 alice X1 c{b alice>bob 1, b alice>bob 9 EUR, b @a>@b 5 JPY}"],
        alice=999,
        bob=1001,
    ),
    case("frozen pays", ["f m T1 alice X1 c{b alice>bob 1, b snow>bob 1}"]),
    case("frozen is paid", ["q m T1 alice X1 c{b alice>snow 1}"]),
    case("closed is paid", ["k m T1 alice X1 c{b alice>gone 1}"]),
    case(
        "unknown before closed before frozen",
        ["k m T1 ice X1 c{b ice>gone 1}", "g m T2 gone X1 c{b gone>nobody 1}"],
    ),
    case("no room", ["l m T1 alice X1 c{b alice>rich 1}"], rich=MAX),
    case(
        "no room by what pays out in the same group",
        ["l m T1 rich X1 c{b rich>bob 5, b alice>rich 1}"],
        rich=MAX,
    ),
    case(
        "a system account beyond a number",
        [f"+ m T1 @bottom X1 c{{b @bottom>alice {MAX - 1000}}}", f"+ m T2 alice X1 c{{b alice>@top {MAX}}}"],
        [f"+ m T3 @bottom X1 c{{b @bottom>alice {MAX}}}", f"+ m T4 alice X1 c{{b alice>@top {MAX}}}"],
        alice=0,
    ),
]

PARTS: Final = [
    case(
        "set aside, and paid",
        ["+ p T1 far X1{p0: alice>far 400, r1: far>bob 300, b3: bob>line 50}"],
        ["i t T2 alice bob 601 USD", "i t T3 bob alice 951 USD"],
        ["= p T1 far X1{p0: alice>far 400, r1: far>bob 300, b3: bob>line 50}"],
        ["+ y T1 far X1{p0: alice>far 400, r1: far>bob 300, b3: bob>line 50}"],
        ["= y T1 far X1{p0: alice>far 400, r1: far>bob 300, b3: bob>line 50}"],
        ["= p T1 far X1{p0: alice>far 400, r1: far>bob 300, b3: bob>line 50}"],
        ["= b T1 far X1{p0: alice>far 400, r1: far>bob 300, b3: bob>line 50}"],
        alice=600,
        bob=1250,
        line=50,
    ),
    case(
        "set aside, and given back",
        ["+ p T1 far X1{p0: alice>far 400, r1: far>bob 300}"],
        ["+ b T1 far X1{p0: alice>far 400, r1: far>bob 300}"],
        [
            "= b T1 far X1{p0: alice>far 400, r1: far>bob 300}",
            "= y T1 far X1{p0: alice>far 400, r1: far>bob 300}",
        ],
        ["= p T1 far X1{p0: alice>far 400, r1: far>bob 300}"],
        alice=1000,
        bob=1000,
    ),
    case(
        "given back before it is set aside",
        ["+ b T1 far X1{p0: alice>far 400}"],
        ["= p T1 far X1{p0: alice>far 400}"],
        [ROTATE, "= p T1 far X1{p0: alice>far 400}", "+ t T9 alice bob 1 USD"],
        alice=999,
    ),
    case(
        "another attempt",
        ["+ p T1 far X1{p0: alice>far 400}"],
        ["+ b T1 far X1{p0: alice>far 400}"],
        ["+ p T1 far X1/1{p0: alice>far 400}"],
        ["= b T1 far X1{p0: alice>far 400}", "= y T1 far X1{p0: alice>far 400}"],
        ["= p T1 far X1{p0: alice>far 400}"],
        ["+ y T1 far X1/1{p0: alice>far 400}"],
        alice=600,
    ),
    case(
        "an abort of the next attempt is one of this",
        ["+ p T1 far X1{p0: alice>far 400}"],
        ["+ b T1 far X1/1{p0: alice>far 400}"],
        ["= p T1 far X1/1{p0: alice>far 400}", "+ p T1 far X1/2{p0: alice>far 400}"],
        alice=600,
    ),
    case(
        "two bodies of one id are two",
        [
            "+ p T1 far X1{p0: alice>far 400}",
            "+ p T1 far X2{p0: alice>far 500}",
            "i p T1 far X3{p0: alice>far 101}",
        ],
        ["+ b T1 far X1{p0: alice>far 400}", "+ y T1 far X2{p0: alice>far 500}"],
        alice=500,
    ),
    case(
        "the first leg that cannot be",
        ["i p T1 far X1{p4: alice>far 400, p6: alice>far 601}"],
        seq=3,
        alice=1000,
    ),
    case("nobody", ["g p T1 far X1{r4: far>nobody 1}"], seq=3),
    case("frozen", ["q p T1 far X1{r4: far>ice 1}"], seq=3),
    case("closed", ["c p T1 far X1{p0: gone>far 1}", "k p T2 far X2{r0: far>gone 1}"], seq=3),
    case("no room", ["l p T1 far X1{r4: far>rich 1}"], seq=3),
    case(
        "room that another group has taken",
        ["+ t T2 rich bob 5 USD"],
        ["+ p T1 far X1{r0: far>rich 5}", "l p T3 far X1{r0: far>rich 1}"],
        ["+ b T1 far X1{r0: far>rich 5}", "+ p T3 far X1{r0: far>rich 1}"],
    ),
    case(
        "more promised than a number holds, to one who owes",
        [f"+ o - deep {MAX} 0 USD", f"+ t T2 deep @fees {MAX} USD", f"+ p T1 far X1{{r0: far>deep {MAX}}}"],
        ["l p T3 far X1{r0: far>deep 1}", f"+ y T1 far X1{{r0: far>deep {MAX}}}"],
        deep=0,
    ),
    case(
        "no room at the moment for what was accepted",
        ["+ t T2 rich bob 5 USD"],
        ["+ p T1 far X1{r0: far>rich 5}", "+ t T3 bob rich 1 USD"],
        ["l y T1 far X1{r0: far>rich 5}"],
        ["+ t T4 rich bob 1 USD", "+ y T1 far X1{r0: far>rich 5}"],
        rich=MAX,
    ),
    case(
        "no room for what comes back",
        [f"+ p T1 far X1{{p0: rich>far {MAX}}}", f"+ t T2 @bottom rich {MAX} USD"],
        [f"l b T1 far X1{{p0: rich>far {MAX}}}"],
        ["+ t T3 rich @bottom 1 USD", f"l b T1 far X1{{p0: rich>far {MAX}}}"],
    ),
    case(
        "more set aside than a number holds",
        [f"+ p T1 far X1{{p0: rich>far {MAX}}}", "+ t T2 alice rich 1 USD"],
        ["l p T3 far X1{p0: rich>far 1}", "l h T4 rich -|1000 1 USD"],
    ),
    case(
        "a freeze in between stops nothing",
        [
            "+ p T1 far X1{p0: alice>far 400, r1: far>bob 300}",
            "+ f - alice freeze 0 -",
            "+ f - bob freeze 0 -",
        ],
        ["+ y T1 far X1{p0: alice>far 400, r1: far>bob 300}"],
        alice=600,
        bob=1300,
    ),
    case(
        "what expects money does not close, nor what owes it",
        ["+ p T1 far X1{r0: far>line 5}", "p f - line close 0 -"],
        ["p f - line close 0 -", "+ p T2 far X1{p0: bob>far 1000}", "z f - bob close 0 -"],
        ["+ b T1 far X1{r0: far>line 5}", "+ f - line close 0 -", "z f - bob close 0 -"],
        ["+ y T2 far X1{p0: bob>far 1000}", "+ f - bob close 0 -"],
    ),
    case(
        "system accounts need nothing set aside",
        ["+ p T1 far X1{b0: @mint>bob 300, b1: alice>@fees 10, p2: @mint>far 9}"],
        ["+ y T1 far X1{b0: @mint>bob 300, b1: alice>@fees 10, p2: @mint>far 9}"],
        bob=1300,
        alice=990,
    ),
    case(
        "system accounts, given back",
        ["+ p T1 far X1{b0: @mint>bob 300, b1: alice>@fees 10, p2: @mint>far 9}"],
        ["+ b T1 far X1{b0: @mint>bob 300, b1: alice>@fees 10, p2: @mint>far 9}"],
        bob=1000,
        alice=1000,
    ),
]

HOME: Final = [
    case(
        "decided, and forgotten",
        ["+ g T1 alice X1 c{p alice>far 400, n far>farther 7, r far>bob 300, b alice>bob 100}"],
        ["= g T1 alice X1 c{p alice>far 400, n far>farther 7, r far>bob 300, b alice>bob 100}"],
        ["= g T1 alice X1 r{}"],
        ["+ w T1 alice X1{}"],
        ["= w T1 alice X1{}", "= g T1 alice X1 r{}"],
        alice=500,
        bob=1400,
    ),
    case(
        "refused here",
        ["i g T1 alice X1 c{p alice>far 400, p alice>far 601}"],
        ["= g T1 alice X1 c{p alice>far 400, p alice>far 601}", "= g T1 alice X1 r{}"],
        alice=1000,
    ),
    case(
        "refused elsewhere",
        ["f g T1 alice X1 a.1.f{p alice>far 400, n far>farther 601}"],
        ["= g T1 alice X1 c{p alice>far 400, n far>farther 601}"],
        alice=1000,
    ),
    case(
        "refused here before elsewhere",
        ["i g T1 alice X1 a.1.f{p alice>far 1001, n far>farther 601}"],
        alice=1000,
    ),
    case(
        "refused elsewhere before here",
        ["f g T1 alice X1 a.0.f{n far>farther 601, p alice>far 1001}"],
        alice=1000,
    ),
    case(
        "refused on both sides of one leg: the payer first",
        ["i g T1 alice X1 a.0.f{p alice>far 1001}", "f g T2 bob X1 a.0.f{r far>nobody 5}"],
        alice=1000,
    ),
    case(
        "interrupted, and again",
        ["u g T1 alice X1 r{}"],
        [
            "= g T1 alice X1 c{p alice>far 400}",
            "! g T1 alice X2 c{p alice>far 400}",
            "! t T1 alice bob 1 USD",
        ],
        [
            "+ g T1 alice X1/1 c{p alice>far 400}",
            "= g T1 alice X1/1 r{}",
            "= g T1 alice X1/2 c{p alice>far 400}",
        ],
        alice=600,
    ),
    case(
        "interrupted twice",
        ["u g T1 alice X1 r{}"],
        [ROTATE, "= g T1 alice X1 r{}", "u g T1 alice X1/1 r{}"],
        ["= g T1 alice X1/1 c{p alice>far 400}", "i g T1 alice X1/2 c{p alice>far 1001}"],
        ["= g T1 alice X1/3 c{p alice>far 1001}"],
        alice=1000,
    ),
    case(
        "a decision is known as long as parts are to pay",
        ["+ g T1 alice X1 c{p alice>far 400}"],
        [ROTATE, "+ t T2 alice bob 1 USD"],
        [ROTATE, "+ t T3 alice bob 1 USD"],
        ["= g T1 alice X1 r{}", "= g T1 alice X1 c{p alice>far 400}", "+ w T1 alice X1{}"],
        alice=598,
    ),
    case(
        "a group that is all here leaves no record, and asks for none",
        ["+ g T1 alice X1 c{p alice>far 400}"],
        [ROTATE, "+ t T2 alice bob 1 USD"],
        [ROTATE, "+ t T3 alice bob 1 USD"],
        ["+ m T1 alice X1 c{b alice>bob 100}", "= g T1 alice X1 c{p alice>far 400}"],
        alice=498,
    ),
    case("another's interruption", ["+ g T1 alice X1 c{p alice>far 1}"], ["! g T1 alice X2 r{}"], alice=999),
    case("money that comes from home", ["+ g T1 @mint X1 c{r far>bob 5, p @mint>far 9}"], bob=1005),
]

#: Fields of the groups T1 of alice, which was decided here, and of far, of which this is a part.
_HERE, _FAR = transfer_field("alice", "T1"), transfer_field("far", "T1")

REFUNDS: Final = [
    case(
        "a leg of a group that was decided here",
        ["+ m T1 alice X1 c{b alice>bob 400, b alice>bob 100}"],
        [
            f"+ x T2 bob alice|{_HERE}#1|0.4.0|m|100|- 100 USD",
            f"r x T3 bob alice|{_HERE}#1|0.4.0|m|100|1 1 USD",
            f"+ x T4 bob alice|{_HERE}#0|0.4.0|m|400|150 150 USD",
            f"n x T5 bob alice|{_HERE}#0|0.4.1|m|400|150 150 USD",
        ],
        [ROTATE, f"+ x T6 bob alice|{_HERE}#0|0.4.0|m|400|- 250 USD"],
        alice=1000,
        bob=1000,
    ),
    case(
        "a leg of which this was a part",
        ["+ p T1 far X1{r0: far>bob 300}"],
        [f"n z T2 bob far|{_FAR}#0|3.7.0|yX1|300|- 300 USD"],
        ["+ y T1 far X1{r0: far>bob 300}", f"+ z T3 bob far|{_FAR}#0|3.7.0|yX1|300|100 100 USD"],
        [f"n z T4 bob far|{_FAR}#0|3.7.0|yX2|300|- 200 USD"],
        [
            f"+ z T5 bob far|{_FAR}#0|3.7.0|yX1|300|- 200 USD",
            f"r z T6 bob far|{_FAR}#0|3.7.0|yX1|300|1 1 USD",
        ],
        [f"+ j T5 bob 6.0.a|{_FAR}#0|3.7.0 200 USD", f"+ z T7 bob far|{_FAR}#0|3.7.0|yX1|300|1 1 USD"],
        bob=1199,
    ),
    case(
        "nothing of one that was given back",
        ["+ p T1 far X1{r0: far>bob 300}"],
        ["+ b T1 far X1{r0: far>bob 300}", f"n z T2 bob far|{_FAR}#0|3.7.0|yX1|300|- 300 USD"],
        bob=1000,
    ),
]

GROUP_CASES: Final = [*WHOLE, *PARTS, *HOME, *REFUNDS]
