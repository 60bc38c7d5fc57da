"""Limits of accounts with every outcome, one row per case, as in `cases.py`: what they may owe, and have at most."""

from typing import Final

from lua.cases import MAX
from lua.hold_cases import LONG, case

from wallet_engine.domain.memory import transfer_field

CAPPED: Final = ["+ o - new -<100 0 USD", "+ t T1 bob new 70 USD"]
LOWERED: Final = [["+ t T1 line bob 400 USD"], ["+ a - line 100|- 0 USD"]]

MOST: Final = [
    case("as much as it may have", CAPPED, ["l t T2 bob new 31 USD", "+ t T3 bob new 30 USD"], new=100),
    case(
        "in the batch that opens it",
        ["+ o - new 50<70 0 USD", "l t T1 bob new 71 USD", "+ t T2 new bob 50 USD"],
    ),
    case("nothing", ["+ o - new -<0 0 USD"], ["l t T1 bob new 1 USD"], new=0),
    case(
        "a credit",
        CAPPED,
        ["l c 9.1 new 0 31 USD", "+ c 9.1 new 1 30 USD"],
        ["= c 9.1 new 0 31 USD"],
        new=100,
    ),
    case("in its own currency", CAPPED, ["+ o - new - 0 EUR", "+ t T2 @mint new 500 EUR"]),
    case("opened again", CAPPED, ["= o - new - 0 USD", "= o - new -<100 0 USD", "! o - new -<101 0 USD"]),
    case("opened again with a first one", ["! o - alice -<5000 0 USD"]),
    case(
        "beside an overdraft limit",
        CAPPED,
        ["+ o - new 9<7 0 EUR", "+ o - new 8 0 JPY"],
        ["+ f - new freeze 0 -"],
    ),
    case(
        "what is refused comes back",
        CAPPED,
        ["+ d T2 new far 50 USD", "+ t T3 bob new 80 USD"],
        ["+ r T2 new 5.0.a 50 USD"],
        new=150,
    ),
    case(
        "what is held counts",
        CAPPED,
        [f"+ h T2 new -|{LONG} 50 USD", "l t T3 bob new 31 USD"],
        ["l t T4 bob new 31 USD", "+ t T5 bob new 30 USD"],
        ["+ v T2 new - 0 USD"],
        new=100,
    ),
    case(
        "what a hold has paid does not",
        CAPPED,
        [f"+ h T2 new -|{LONG} 50 USD"],
        [f"+ k T3 new bob|{transfer_field('new', 'T2')}|f|- 50 USD", "+ t T4 bob new 80 USD"],
        new=100,
    ),
    case(
        "a capture",
        CAPPED,
        [f"+ h T2 alice -|{LONG} 400 USD"],
        ["l k T3 alice new|F2|p|31 31 USD", "+ k T4 alice new|F2|p|30 30 USD"],
        new=100,
    ),
    case(
        "a refund",
        ["+ t T1 alice bob 400 USD"],
        ["+ a - alice -|999 0 USD"],
        ["l x T2 bob alice|F1|0.4.0|l|400|- 400 USD", "+ x T3 bob alice|F1|0.4.0|l|400|399 399 USD"],
        alice=999,
    ),
    case("a bank has none", CAPPED, ["+ t T2 new @bank 70 USD"], new=0),
]

CHANGED: Final = [
    case(
        "a first most",
        ["+ a - alice -|1000 0 USD"],
        ["l t T1 bob alice 1 USD", "+ t T2 alice bob 1 USD"],
        alice=999,
    ),
    case(
        "less than it has",
        ["+ a - alice -|10 0 USD", "l t T1 bob alice 1 USD", "+ t T2 alice bob 995 USD"],
        ["+ t T3 bob alice 5 USD"],
        alice=10,
    ),
    case("lifted", CAPPED, [f"+ a - new -|{MAX} 0 USD", "+ t T2 bob new 500 USD"], new=570),
    case(
        "a first overdraft",
        ["+ a - alice 100|- 0 USD", "+ t T1 alice bob 1100 USD", "i t T2 alice bob 1 USD"],
        alice=-100,
    ),
    case(
        "a lowered overdraft stops new payments",
        *LOWERED,
        ["i t T2 line bob 1 USD", "+ t T3 bob line 50 USD"],
        line=-350,
    ),
    case(
        "and what comes in still comes",
        *LOWERED,
        ["+ c 9.1 line 0 250 USD"],
        ["i t T2 line bob 1 USD"],
        line=-150,
    ),
    case(
        "lowered in the entry that used it", ["+ t T1 line bob 500 USD", "+ a - line 100|- 0 USD"], line=-500
    ),
    case("raised again", *LOWERED, ["+ a - line 450|- 0 USD", "+ t T2 line bob 50 USD"], line=-450),
    case("both", ["+ a - alice 5|2000 0 USD", "= a - alice 5|2000 0 USD", "+ a - alice 6|- 0 USD"]),
    case("as they are", ["= a - alice 0|- 0 USD", "= a - line 500|- 0 USD", "= a - alice -|- 0 USD"], seq=3),
    case("noted", ['+ a - alice -|- 0 USD #k1 {"meta":{"tier":"gold"}}'], seq=4),
    case("frozen", ["+ a - snow 5|2000 0 USD", "f t T1 snow bob 1 USD"]),
    case("nobody", ["a a - nobody 5|- 0 USD", "a a - alice 5|- 0 EUR"]),
    case("closed", ["c a - gone 5|- 0 USD"]),
    case(
        "behind the most of another currency",
        ["+ o - new -<70 0 USD", "+ o - new - 0 EUR"],
        ["+ a - new 3|4 0 EUR", "+ a - new 5|- 0 USD"],
        ["+ f - new closing 0 -"],
    ),
]

LIMIT_CASES: Final = [*MOST, *CHANGED]
LIMIT_OUTCOMES: Final = {"a": "+=ac"}
