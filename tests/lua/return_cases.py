"""Refunds with every outcome, one row per case, as in `hold_cases.py`. The original is T1, of alice for bob."""

from typing import Final

from lua.cases import MAX, ROTATE, Case
from lua.hold_cases import LONG, case

from wallet_engine.domain.memory import transfer_field

PAID: Final = ["+ t T1 alice bob 400 USD"]
#: What a refund says of it, all of it being wanted.
ALL: Final = "alice|F1|0.4.0|l|400|-"
#: The same of an original from another partition.
RECEIVED: Final = ["+ c 3.17 bob 5 400 USD"]
FAR: Final = "far|FAR|3.17.5|c|400"
_FAR_FIELD: Final = transfer_field("far", "T1")


def of_far(name: str, *batches: list[str], **balances: int) -> Case:
    """What undoes a refund says the place of the original."""
    named = [[row.replace("|FAR ", "|FAR|3.17.5 ") for row in batch] for batch in batches]
    return case(name, *[[row.replace("FAR", _FAR_FIELD) for row in batch] for batch in named], **balances)


HERE: Final = [
    case("all of it", PAID, [f"+ x T2 bob {ALL} 400 USD"], alice=1000, bob=1000),
    case(
        "in parts, and what is left",
        PAID,
        ["+ x T2 bob alice|F1|0.4.0|l|400|150 150 USD", "+ x T3 bob alice|F1|0.4.0|l|400|100 100 USD"],
        ["r x T4 bob alice|F1|0.4.0|l|400|151 151 USD"],
        [f"+ x T5 bob {ALL} 150 USD"],
        [f"r x T6 bob {ALL} 0 USD", "r x T7 bob alice|F1|0.4.0|l|400|1 1 USD"],
        alice=1000,
        bob=1000,
    ),
    case(
        "once",
        PAID,
        [
            f"+ x T2 bob {ALL} 400 USD",
            f"= x T2 bob {ALL} 400 USD",
            "! x T2 bob alice|F1|0.4.0|l|400|400 400 USD",
        ],
        [f"= x T2 bob {ALL} 0 USD"],
        alice=1000,
    ),
    case("two of all at once", PAID, [f"+ x T2 bob {ALL} 400 USD", f"s x T3 bob {ALL} 400 USD"], alice=1000),
    case("more than was paid", PAID, ["r x T2 bob alice|F1|0.4.0|l|400|401 401 USD"], alice=600),
    case(
        "a refusal is remembered",
        PAID,
        ["r x T2 bob alice|F1|0.4.0|l|400|401 401 USD"],
        ["= x T2 bob alice|F1|0.4.0|l|400|401 401 USD"],
    ),
    case("of none", [f"n x T2 bob {ALL} 400 USD"], seq=3),
    case("of a declined one", ["i t T1 alice bob 1001 USD"], [f"n x T2 bob {ALL} 400 USD"], seq=4),
    case(
        "of another place",
        PAID,
        ["n x T2 bob alice|F1|0.4.1|l|400|- 400 USD", "n x T2 bob alice|F1|0.5.0|l|400|- 400 USD"],
    ),
    case("of a transfer of the same batch", [*PAID, f"+ x T2 bob {ALL} 400 USD"], alice=1000),
    case(
        "of a refund",
        PAID,
        [f"+ x T2 bob {ALL} 400 USD"],
        [f"n x T3 alice bob|{transfer_field('bob', 'T2')}|0.5.0|l|400|- 400 USD"],
    ),
    case(
        "of a capture",
        [f"+ h T1 alice -|{LONG} 400 USD"],
        ["+ k T2 alice bob|F1|f|- 400 USD"],
        ["+ x T3 bob alice|F2|0.5.0|l|400|- 400 USD"],
        ["n x T4 bob alice|F1|0.4.0|l|400|- 400 USD"],
        alice=1000,
    ),
    case(
        "without the money",
        PAID,
        ["+ t T2 bob @fees 1100 USD"],
        [f"i x T3 bob {ALL} 400 USD", "+ x T4 bob alice|F1|0.4.0|l|400|300 300 USD"],
        bob=0,
        alice=900,
    ),
    case(
        "within the overdraft limit",
        ["+ t T1 alice line 400 USD"],
        ["+ t T2 line bob 900 USD"],
        ["i x T3 line alice|F1|0.4.0|l|400|1 1 USD"],
        line=-500,
    ),
    case("a frozen receiver", PAID, ["+ f - bob freeze 0 -"], [f"f x T2 bob {ALL} 400 USD"], alice=600),
    case("a frozen payer", PAID, ["+ f - alice freeze 0 -"], [f"q x T2 bob {ALL} 400 USD"], alice=600),
    case(
        "a closed payer",
        ["+ t T1 alice bob 1000 USD"],
        ["+ f - alice close 0 -"],
        ["k x T2 bob alice|F1|0.4.0|l|1000|- 1000 USD"],
    ),
    case(
        "a closed receiver",
        PAID,
        ["+ t T3 bob alice 1400 USD", "+ f - bob close 0 -"],
        [f"c x T2 bob {ALL} 400 USD"],
    ),
    case("an account of another currency", PAID, [f"a x T2 bob {ALL} 400 EUR"]),
    case("a payer of another currency", PAID, ["+ o - bob - 0 EUR"], [f"g x T2 bob {ALL} 400 EUR"]),
    case(
        "no room for it",
        ["+ t T1 rich bob 400 USD"],
        ["+ t T2 alice rich 400 USD"],
        [f"l x T3 bob rich|{transfer_field('rich', 'T1')}|0.4.0|l|400|- 400 USD"],
        rich=MAX,
    ),
    case(
        "more than is left before all else",
        PAID,
        ["+ f - bob freeze 0 -"],
        ["r x T2 bob alice|F1|0.4.0|l|400|401 401 USD"],
    ),
    case(
        "from a system account",
        ["+ t T1 alice @fees 400 USD"],
        ["+ x T2 @fees alice|F1|0.4.0|l|400|- 400 USD"],
        alice=1000,
    ),
    case(
        "to a system account",
        [f"+ x T2 alice @mint|{transfer_field('@mint', 'S1')}|0.2.0|l|1000|10 10 USD"],
        alice=990,
    ),
    case(
        "with a reference",
        PAID,
        [f'+ x T2 bob {ALL} 400 USD #k1 {{"ref":"damaged"}}'],
        [f'= x T2 bob {ALL} 400 USD #k2 {{"ref":"damaged"}}', f"! x T2 bob {ALL} 400 USD"],
    ),
]

WINDOWS: Final = [
    case(
        "of the window before",
        PAID,
        [ROTATE, f"+ x T2 bob {ALL} 400 USD"],
        [f"r x T3 bob {ALL} 0 USD"],
        alice=1000,
    ),
    case(
        "what was refunded is remembered as long as the original",
        PAID,
        ["+ x T2 bob alice|F1|0.4.0|l|400|300 300 USD"],
        [ROTATE, "r x T3 bob alice|F1|0.4.0|l|400|101 101 USD", f"+ x T4 bob {ALL} 100 USD"],
        alice=1000,
    ),
    case(
        "forgotten with the original",
        PAID,
        ["+ x T2 bob alice|F1|0.4.0|l|400|300 300 USD"],
        [ROTATE, "+ t T8 bob @fees 1 USD"],
        [ROTATE, "+ t T9 bob @fees 1 USD"],
        ["n x T3 bob alice|F1|0.4.0|l|400|1 1 USD"],
        alice=900,
    ),
    of_far(
        "a credit of the window before, in two parts",
        RECEIVED,
        [ROTATE, f"+ z T2 bob {FAR}|150 150 USD"],
        [f"r z T3 bob {FAR}|251 251 USD", f"+ z T4 bob {FAR}|- 250 USD"],
        bob=1000,
    ),
    of_far(
        "undone in the window after",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        [ROTATE, "+ j T2 bob 5.0.c|FAR 400 USD"],
        [f"= z T2 bob {FAR}|- 400 USD", f"+ z T3 bob {FAR}|- 400 USD"],
        bob=1000,
    ),
    of_far(
        "undone when the original is forgotten",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        [ROTATE, "+ t T8 bob @fees 1 USD"],
        [ROTATE, "+ t T9 bob @fees 1 USD"],
        ["+ j T2 bob 5.0.c|FAR 400 USD"],
        bob=1398,
    ),
]

#: Two windows later nothing of before is remembered.
LATER: Final = ([ROTATE, "+ t T8 bob @fees 1 USD"], [ROTATE, "+ t T9 bob @fees 1 USD"])

#: The id T1 is used again while what left under it before is still under way.
USED_AGAIN: Final = [
    case(
        "a debit is undone: a later transfer of its id stays paid",
        ["+ d T1 alice far 5 USD"],
        *LATER,
        ["+ t T1 alice bob 7 USD"],
        ["+ r T1 alice 4.0.c 5 USD", "= t T1 alice bob 7 USD"],
        ["+ x T2 bob alice|F1|0.7.0|l|7|- 7 USD"],
        alice=1000,
    ),
    case(
        "in the window before, and in the batch of the refund",
        ["+ d T1 alice far 5 USD"],
        ["+ d T2 alice far 6 USD"],
        *LATER,
        ["+ t T1 alice bob 7 USD"],
        [ROTATE, "+ r T1 alice 4.0.c 5 USD", "+ t T2 alice bob 8 USD", "+ r T2 alice 5.0.c 6 USD"],
        ["+ x T3 bob alice|F1|0.8.0|l|7|- 7 USD", "+ x T4 bob alice|F2|0.9.1|l|8|- 8 USD"],
        alice=1000,
    ),
    of_far(
        "a refund is undone: what went back of a later original stays counted",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        *LATER,
        ["+ c 3.99 bob 0 400 USD", "+ z T3 bob far|FAR|3.99.0|c|400|- 400 USD"],
        ["+ j T2 bob 5.0.c|FAR 400 USD", "r z T4 bob far|FAR|3.99.0|c|400|1 1 USD"],
    ),
    of_far(
        "the same, where the answer of the refund is still remembered",
        RECEIVED,
        [ROTATE, f"+ z T2 bob {FAR}|- 400 USD"],
        [ROTATE, "+ c 3.99 bob 0 400 USD", "+ z T3 bob far|FAR|3.99.0|c|400|- 400 USD"],
        ["+ j T2 bob 5.0.c|FAR 400 USD", "r z T4 bob far|FAR|3.99.0|c|400|1 1 USD"],
    ),
    of_far(
        "a refund is undone whose id is a later one's too",
        RECEIVED,
        [f"+ z T2 bob {FAR}|150 150 USD"],
        *LATER,
        ["+ t T2 bob alice 7 USD"],
        ["+ j T2 bob 5.0.c|FAR 150 USD", "= t T2 bob alice 7 USD"],
        [f"+ x T5 alice bob|{transfer_field('bob', 'T2')}|0.8.0|l|7|- 7 USD"],
        bob=1398,
    ),
    case(
        "a capture is undone: a later hold of its hold's id stays as it is",
        [f"+ h T1 alice -|{LONG} 400 USD"],
        ["+ q T2 alice far|F1|p|150 150 USD", "+ v T1 alice - 0 USD"],
        *LATER,
        [f"+ h T1 alice -|{LONG} 300 USD", "+ k T3 alice bob|F1|p|50 50 USD"],
        [
            "+ u T2 alice 5.0.c|F1 150 USD",
            "e k T4 alice bob|F1|f|251 251 USD",
            "s k T5 alice bob|F1|f|- 400 USD",
        ],
        ["+ k T6 alice bob|F1|f|- 250 USD"],
        alice=700,
    ),
    case(
        "a capture is undone: a later transfer of its id stays paid",
        [f"+ h T1 alice -|{LONG} 400 USD"],
        ["+ q T2 alice far|F1|p|150 150 USD"],
        *LATER,
        ["+ t T2 alice bob 7 USD"],
        ["+ u T2 alice 5.0.c|F1 150 USD", "= t T2 alice bob 7 USD"],
        ["+ x T3 bob alice|F2|0.8.0|l|7|- 7 USD", "+ k T4 alice bob|F1|f|- 400 USD"],
        alice=600,
    ),
]

#: The id T1 is used again while what had gone back of the original before is still remembered.
COUNTED_APART: Final = [
    of_far(
        "its payer's partition has forgotten it, and its receiver's has not",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        [ROTATE, "+ c 3.99 bob 0 30 USD"],
        ["+ z T3 bob far|FAR|3.99.0|c|30|- 30 USD", "r z T4 bob far|FAR|3.99.0|c|30|1 1 USD"],
        [
            "+ j T2 bob 5.0.c|FAR 400 USD",
            "r z T5 bob far|FAR|3.99.0|c|30|1 1 USD",
            f"+ z T6 bob {FAR}|- 400 USD",
        ],
        bob=1000,
    ),
    of_far(
        "both are remembered in one window",
        RECEIVED,
        [f"+ z T2 bob {FAR}|150 150 USD", "+ c 3.99 bob 0 30 USD"],
        ["+ z T3 bob far|FAR|3.99.0|c|30|- 30 USD", f"+ z T4 bob {FAR}|- 250 USD"],
        bob=1000,
    ),
    case(
        "the one before was refunded by what a store knew of it",
        PAID,
        *LATER,
        ["+ x T2 bob alice|F1|0.4.0|s3.300|400|60 60 USD"],
        ["+ t T1 alice bob 30 USD", "+ x T3 bob alice|F1|0.8.0|l|30|- 30 USD"],
        ["r x T4 bob alice|F1|0.4.0|s3.300|400|41 41 USD", "r x T5 bob alice|F1|0.8.0|l|30|1 1 USD"],
        alice=660,
    ),
    of_far(
        "undone by a program of rules before 6: what it gives back is refunded later",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        [f"+ j T2 bob 5.0.c|{_FAR_FIELD} 400 USD", f"r z T3 bob {FAR}|1 1 USD"],
        bob=1400,
    ),
]

STORED: Final = [
    case(
        "a store says what had gone back",
        PAID,
        *LATER,
        ["s x T2 bob alice|F1|0.4.0|s2.300|400|- 100 USD", "s x T2 bob alice|F1|0.4.0|s3.300|400|- 99 USD"],
        ["+ x T2 bob alice|F1|0.4.0|s3.300|400|60 60 USD", "s x T3 bob alice|F1|0.4.0|s3.300|400|- 100 USD"],
        ["r x T4 bob alice|F1|0.4.0|s3.300|400|41 41 USD", "+ x T5 bob alice|F1|0.4.0|s3.0|400|- 40 USD"],
        ["= x T5 bob alice|F1|0.4.0|s3.0|400|- 40 USD", "r x T6 bob alice|F1|0.4.0|s3.300|400|- 0 USD"],
        alice=700,
    ),
    case(
        "what is remembered counts where the store says less",
        PAID,
        ["+ x T2 bob alice|F1|0.4.0|l|400|300 300 USD"],
        [
            ROTATE,
            "r x T3 bob alice|F1|0.4.0|s2.0|400|101 101 USD",
            "+ x T4 bob alice|F1|0.4.0|s2.0|400|40 40 USD",
        ],
        [f"+ x T5 bob {ALL} 60 USD", "r x T6 bob alice|F1|0.4.0|s2.0|400|1 1 USD"],
        alice=1000,
    ),
    of_far(
        "of what a store knows, undone",
        RECEIVED,
        *LATER,
        ["+ z T2 bob far|FAR|3.17.5|s3.100|400|- 300 USD"],
        ["+ j T2 bob 7.0.c|FAR 300 USD"],
        [
            "r z T3 bob far|FAR|3.17.5|s3.100|400|301 301 USD",
            "+ z T4 bob far|FAR|3.17.5|s3.100|400|- 300 USD",
        ],
        bob=1098,
    ),
]

ELSEWHERE: Final = [
    of_far(
        "to another partition",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        ["+ s 5 - - 0 -", f"= z T2 bob {FAR}|- 0 USD", f"r z T3 bob {FAR}|- 0 USD"],
        bob=1000,
    ),
    of_far(
        "refused there: all can be refunded again",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        ["+ j T2 bob 5.0.c|FAR 400 USD", "= j T2 bob 5.0.c|FAR 400 USD"],
        [f"= z T2 bob {FAR}|- 400 USD", f"+ z T3 bob {FAR}|- 400 USD"],
        bob=1000,
    ),
    of_far(
        "refused there, and told so again later: the money comes back once",
        RECEIVED,
        [f"+ z T2 bob {FAR}|- 400 USD"],
        ["+ j T2 bob 5.0.c|FAR 400 USD"],
        ["= j T2 bob 5.0.c|FAR 400 USD"],
        [f"+ z T3 bob {FAR}|- 400 USD"],
        bob=1000,
    ),
    of_far("refused there, of an entry that is not open", ["= j T2 bob 4.0.a|FAR 400 USD"]),
    of_far(
        "no room for what comes back",
        ["+ c 3.17 bob 5 9 USD"],
        ["+ z T2 bob far|FAR|3.17.5|c|9|- 9 USD", f"+ t T9 @bottom bob {MAX - 1000} USD"],
        ["l j T2 bob 5.0.a|FAR 9 USD"],
        bob=MAX,
    ),
    of_far("of a credit that was refused", ["q c 3.17 ice 5 400 USD"], [f"n z T2 ice {FAR}|- 400 USD"]),
    of_far(
        "of another credit",
        RECEIVED,
        ["n z T2 bob far|FAR|3.17.4|c|400|- 400 USD", "n z T2 bob far|FAR|3.18.5|c|400|- 400 USD"],
    ),
    of_far(
        "of an odd ten",
        ["+ c 12.31 bob 70 400 USD"],
        ["+ z T2 bob far|FAR|12.31.70|c|400|- 400 USD"],
        bob=1000,
    ),
    of_far(
        "of a first entry",
        ["+ c 12.3 bob 0 400 USD"],
        ["+ z T2 bob far|FAR|12.3.0|c|400|- 400 USD"],
        bob=1000,
    ),
    of_far("more than was paid", RECEIVED, [f"r z T2 bob {FAR}|401 401 USD"]),
    of_far("stale", RECEIVED, [f"s z T2 bob {FAR}|- 399 USD"]),
    of_far("another body", RECEIVED, [f"+ z T2 bob {FAR}|1 1 USD", f"! z T2 bob {FAR}|2 2 USD"]),
    of_far("without the money", RECEIVED, ["+ t T8 bob @fees 1100 USD"], [f"i z T2 bob {FAR}|- 400 USD"]),
    of_far("frozen", RECEIVED, ["+ f - bob freeze 0 -"], [f"f z T2 bob {FAR}|- 400 USD"]),
    of_far(
        "closed",
        RECEIVED,
        ["+ t T8 bob @fees 1400 USD"],
        ["+ f - bob close 0 -"],
        [f"c z T2 bob {FAR}|- 400 USD"],
    ),
    of_far("an account of another currency", RECEIVED, [f"a z T2 bob {FAR}|- 400 EUR"]),
    of_far(
        "from the other partition to the bank here",
        RECEIVED,
        [f"+ x T2 bob @bank|{transfer_field('@bank', 'T1')}|3.17.5|c|400|- 400 USD"],
        bob=1000,
    ),
]

RETURN_CASES: Final = [*HERE, *WINDOWS, *USED_AGAIN, *COUNTED_APART, *STORED, *ELSEWHERE]

#: Kind -> every outcome that it can have.
RETURN_OUTCOMES: Final = {"x": "+=!acfgkqilnrs", "z": "+=!acfinrs", "j": "+=l"}
