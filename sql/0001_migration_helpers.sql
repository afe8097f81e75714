-- Helpers for the migrations that follow. A migration must be valid on an empty
-- database and on one that already holds the tables, with old rows in them, so
-- it adds a constraint only where the catalogue lacks one that does the same,
-- whatever its name, and never rejects or rewrites rows that are already there.

-- Functions keep the search_path that they are made with (SET search_path FROM CURRENT), whoever
-- calls them: the schema of the engine's tables, whatever its name, with pg_temp last. A file that
-- makes functions begins with this line.
SELECT pg_catalog.set_config(
    'search_path', pg_catalog.quote_ident(pg_catalog.current_schema()) || ', pg_temp', TRUE
);

-- Validates a new constraint where there are no rows yet, which costs nothing.
CREATE OR REPLACE FUNCTION alerts_validate_if_empty(
    target regclass, constraint_name text
) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    has_rows boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', target) INTO has_rows;
    IF NOT has_rows THEN
        EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', target, constraint_name);
    END IF;
END
$$;

-- Adds CHECK (expression). NOT VALID, so that old rows are left alone; on an
-- empty table there is nothing to leave alone and it is validated at once.
CREATE OR REPLACE FUNCTION alerts_ensure_check(
    target regclass, constraint_name text, expression text
) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = target AND conname = constraint_name
    ) THEN
        RETURN;
    END IF;
    EXECUTE format(
        'ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID', target, constraint_name, expression
    );
    PERFORM alerts_validate_if_empty(target, constraint_name);
END
$$;

-- Adds a foreign key from one column unless that column already has one to the
-- same table.
CREATE OR REPLACE FUNCTION alerts_ensure_foreign_key(
    target regclass, column_name text, referenced regclass, referenced_column text, on_delete text
) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    constraint_name text := format('%s_%s_fkey', target::text, column_name);
BEGIN
    IF EXISTS (
        SELECT
        FROM pg_constraint AS c
        JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attname = column_name
        WHERE c.contype = 'f'
          AND c.conrelid = target
          AND c.confrelid = referenced
          AND c.conkey = ARRAY[a.attnum]
    ) THEN
        RETURN;
    END IF;
    EXECUTE format(
        'ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s (%I) ON DELETE %s NOT VALID',
        target, constraint_name, column_name, referenced, referenced_column, on_delete
    );
    PERFORM alerts_validate_if_empty(target, constraint_name);
END
$$;

-- Adds a unique index over the columns unless one over just these columns is
-- there. Old rows that contradict it stop the migration with the query that
-- shows them: which of two rows is right is not for a migration to decide.
CREATE OR REPLACE FUNCTION alerts_ensure_unique(
    target regclass, index_name text, columns text[]
) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    column_list text := (
        SELECT string_agg(quote_ident(c), ', ' ORDER BY n) FROM unnest(columns) WITH ORDINALITY AS u(c, n)
    );
    not_null text := (
        SELECT string_agg(quote_ident(c) || ' IS NOT NULL', ' AND ' ORDER BY n)
        FROM unnest(columns) WITH ORDINALITY AS u(c, n)
    );
    duplicates_query text;
    has_duplicates boolean;
BEGIN
    IF EXISTS (
        SELECT
        FROM pg_index AS i
        WHERE i.indrelid = target
          AND i.indisunique
          AND i.indisvalid
          AND i.indpred IS NULL
          AND i.indexprs IS NULL
          AND i.indnkeyatts = cardinality(columns)
          AND (
              SELECT array_agg(a.attname::text ORDER BY a.attname::text)
              FROM pg_attribute AS a
              WHERE a.attrelid = target
                AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
          ) = (SELECT array_agg(c ORDER BY c) FROM unnest(columns) AS u(c))
    ) THEN
        RETURN;
    END IF;
    duplicates_query := format(
        'SELECT %1$s, count(*) FROM %2$s WHERE %3$s GROUP BY %1$s HAVING count(*) > 1',
        column_list, target, not_null
    );
    EXECUTE format('SELECT EXISTS (%s)', duplicates_query) INTO has_duplicates;
    IF has_duplicates THEN
        RAISE EXCEPTION 'table %: old rows contradict the unique index on (%)', target, column_list
            USING HINT = format(
                'Nothing was changed. See them with: %s; keep one of each, then migrate again.',
                duplicates_query
            );
    END IF;
    EXECUTE format('CREATE UNIQUE INDEX %I ON %s (%s)', index_name, target, column_list);
END
$$;
