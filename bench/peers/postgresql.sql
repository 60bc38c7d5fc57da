-- The engine's books in PostgreSQL: what it promises about one transfer, decided for many in one call.
--
-- A row of `transfers` names both sides, so every entry is double; it is also the memory of the transaction id.

CREATE TABLE accounts (
    id text PRIMARY KEY,
    balance bigint NOT NULL,
    CHECK (balance >= 0 OR id LIKE '@%')
) WITH (fillfactor = 50);  -- room for updates in place

CREATE TABLE transfers (
    transaction_id uuid NOT NULL,
    from_account text NOT NULL,
    to_account text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    outcome "char" NOT NULL,
    PRIMARY KEY (transaction_id, from_account)
);

-- One outcome per transfer, in order: '+' paid, 'a' unknown account, 'i' insufficient funds, '!' the id with another
-- body; a repeat gets the first answer. When nobody could be overdrawn whatever the order, two statements do it all;
-- otherwise the transfers are decided one after the other, each seeing those before it.
CREATE FUNCTION transfer_many(ids uuid[], froms text[], tos text[], amounts bigint[]) RETURNS "char"[]
LANGUAGE plpgsql AS $$
DECLARE
    inserted bigint;
    at int;
    decision "char";
    payer_balance bigint;
BEGIN
    -- Always in the same order: two calls never wait for each other in a circle.
    PERFORM FROM accounts WHERE id = ANY (froms || tos) ORDER BY id FOR UPDATE;

    IF NOT EXISTS (
        SELECT FROM (
            SELECT account, sum(debit) AS debits
            FROM (SELECT * FROM unnest(froms, amounts) UNION ALL SELECT t, 0 FROM unnest(tos) t) s(account, debit)
            GROUP BY account
        ) wanted LEFT JOIN accounts ON id = account
        WHERE id IS NULL OR (balance < debits AND account NOT LIKE '@%')
    ) THEN
        WITH fresh AS (
            INSERT INTO transfers SELECT *, '+' FROM unnest(ids, froms, tos, amounts)
            ON CONFLICT DO NOTHING
            RETURNING from_account, to_account, amount
        ), moved AS (
            SELECT account, sum(change) AS change
            FROM (SELECT to_account, amount FROM fresh UNION ALL SELECT from_account, -amount FROM fresh)
                s(account, change)
            GROUP BY account
        ), booked AS (
            UPDATE accounts SET balance = balance + change FROM moved WHERE id = account
        )
        SELECT count(*) INTO inserted FROM fresh;
        IF inserted = cardinality(ids) THEN
            RETURN array_fill('+'::"char", ARRAY[cardinality(ids)]);
        END IF;
    ELSE
        FOR at IN 1 .. cardinality(ids) LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM transfers WHERE transaction_id = ids[at] AND from_account = froms[at]
            );
            SELECT balance INTO payer_balance FROM accounts WHERE id = froms[at];
            IF NOT FOUND OR NOT EXISTS (SELECT FROM accounts WHERE id = tos[at]) THEN
                decision := 'a';
            ELSIF payer_balance < amounts[at] AND froms[at] NOT LIKE '@%' THEN
                decision := 'i';
            ELSE
                decision := '+';
                UPDATE accounts SET balance = balance - amounts[at] WHERE id = froms[at];
                UPDATE accounts SET balance = balance + amounts[at] WHERE id = tos[at];
            END IF;
            INSERT INTO transfers VALUES (ids[at], froms[at], tos[at], amounts[at], decision);
        END LOOP;
    END IF;

    RETURN (
        SELECT array_agg(
            CASE WHEN t.to_account = a.receiver AND t.amount = a.minor THEN t.outcome ELSE '!' END ORDER BY a.n)
        FROM unnest(ids, froms, tos, amounts) WITH ORDINALITY AS a(id, sender, receiver, minor, n)
        JOIN transfers t ON t.transaction_id = a.id AND t.from_account = a.sender
    );
END $$;
