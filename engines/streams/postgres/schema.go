package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coppice-go/coppice/engines/streams"
)

// format is the version of the tables, in the row of cursor.
const format = 1

// tables makes the tables of a slot; @ stands for the schema.
const tables = `
create schema if not exists @;
create table if not exists @.cursor (
	only_row boolean primary key default true check (only_row),
	format integer not null, epoch bigint not null, holder text not null, beat bigint not null,
	chain text not null, period bigint not null, height bigint not null, events bigint not null,
	block_hash bytea not null, app_hash bytea not null, digest bytea not null, definition text not null);
comment on table @.cursor is 'where this stream stands, and who writes it';
create table if not exists @.blocks (
	period bigint, height bigint, chain text not null, block_hash bytea not null, app_hash bytea not null,
	digest bytea not null, definition text not null, events bigint not null, delivered bigint not null,
	end_index bigint not null, primary key (period, height));
comment on table @.blocks is 'the blocks whose events are here';
create table if not exists @.events (
	period bigint, height bigint, index bigint, part integer, kind text not null, tx integer, key bytea,
	value bytea, decoded jsonb, body jsonb, primary key (period, height, index, part));
comment on table @.events is 'the events; a change without a value is a deletion';
insert into @.cursor select true, 1, 0, '', 0, '', 0, 0, 0, '', '', '', '' on conflict do nothing;`

// columns are the columns of each table that the statements use.
var columns = map[string]string{
	"cursor": cursorColumns + ", format, holder",
	"blocks": blockColumns,
	"events": eventColumns,
}

const (
	cursorColumns = "epoch, beat, chain, period, height, events, block_hash, app_hash, digest, definition"
	blockColumns  = "period, height, chain, block_hash, app_hash, digest, definition, events, delivered, end_index"
	eventColumns  = "period, height, index, part, kind, tx, key, value, decoded, body"
)

// sql puts the schema into a statement, where it stands as a name or at the begin of a literal.
func (s *sink) sql(text string) string {
	text = strings.ReplaceAll(text, "'@", "'"+strings.ReplaceAll(s.schema, "'", "''"))
	return strings.ReplaceAll(text, "@", s.schema)
}

// hasTables reports whether the schema has the table of the cursor.
func (s *sink) hasTables(ctx context.Context, conn *pgx.Conn) (has bool, err error) {
	err = conn.QueryRow(ctx, "select to_regclass($1) is not null", s.schema+".cursor").Scan(&has)
	return has, classify(err)
}

// prepare makes the tables unless they are there, and checks that they are ours.
func (s *sink) prepare(ctx context.Context, conn *pgx.Conn) error {
	has, err := s.hasTables(ctx, conn)
	if err != nil {
		return err
	}

	if !has {
		// "if not exists" does not keep two sessions apart that make the same table.
		text := fmt.Sprintf("begin; select pg_advisory_xact_lock(%d);%s\ncommit;", lockID(s.keys.Schema), s.sql(tables))
		if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
			return classify(err)
		}
	}

	return s.checkTables(ctx, conn)
}

// checkTables returns an error if the tables are not as tables makes them.
func (s *sink) checkTables(ctx context.Context, conn *pgx.Conn) error {
	for _, table := range []string{"cursor", "blocks", "events"} {
		_, err := conn.Exec(ctx, s.sql("select "+columns[table]+" from @."+table+" limit 0"))
		var pg *pgconn.PgError
		if errors.As(err, &pg) && (pg.Code == "42703" || pg.Code == "42P01") {
			return streams.Fail(streams.Misconfigured, fmt.Errorf("table %s.%s is not one of this sink: %s",
				s.schema, table, pg.Message))
		}
		if err != nil {
			return classify(err)
		}
	}

	var version int
	err := conn.QueryRow(ctx, s.sql("select format from @.cursor")).Scan(&version)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return streams.Fail(streams.Misconfigured, fmt.Errorf("table %s.cursor has lost its row: what the sink "+
			"holds cannot be told; drop the schema to begin anew", s.schema))
	case err != nil:
		return classify(err)
	case version != format:
		return streams.Fail(streams.Misconfigured, fmt.Errorf("the tables of schema %s have format %d, want %d",
			s.schema, version, format))
	}

	return nil
}

// lockID returns the number of the advisory lock under which the tables of a schema are made.
func lockID(schema string) int64 {
	id := int64(0x636f7070) // "copp"
	for _, c := range []byte(schema) {
		id = id*31 + int64(c)
	}
	return id
}
