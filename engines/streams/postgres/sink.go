package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/coppice-go/coppice/engines/streams"
)

// sink implements streams.Sink.
type sink struct {
	keys    keys
	secrets streams.Secrets
	schema  string // quoted

	opening streams.Opening
	conn    *pgx.Conn // of the writer

	generation string // that is being made

	observing sync.Mutex
	observe   *pgx.Conn
	free      []*pgx.Conn // for chunks
}

// Open checks the server, makes the tables if they are missing, and claims the row of the cursor.
func (s *sink) Open(ctx context.Context, o streams.Opening) (streams.Cursor, error) {
	s.opening = o
	conn, err := s.connect(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	s.conn = conn

	if _, err := checkServer(ctx, conn); err != nil {
		return streams.Cursor{}, err
	}
	if err := s.prepare(ctx, conn); err != nil {
		return streams.Cursor{}, err
	}

	return s.claim(ctx)
}

// checkServer refuses a server that takes no writes or may lose them. notes are what the operator
// should know nevertheless.
func checkServer(ctx context.Context, conn *pgx.Conn) (notes []string, err error) {
	var recovery bool
	var fsync, readOnly, pages string
	err = conn.QueryRow(ctx, "select pg_is_in_recovery(), current_setting('fsync'), "+
		"current_setting('transaction_read_only'), current_setting('full_page_writes')").
		Scan(&recovery, &fsync, &readOnly, &pages)

	switch {
	case err != nil:
		return nil, classify(err)
	case recovery:
		return nil, streams.Fail(streams.Unreachable, errors.New("the server is in recovery: it is a standby, or it "+
			"has not finished its start"))
	case readOnly != "off":
		return nil, streams.Fail(streams.Unreachable, errors.New("the server is read-only"))
	case fsync != "on":
		return nil, streams.Fail(streams.Misconfigured, errors.New("the server has fsync = off: it may lose what it "+
			"has acknowledged"))
	}
	if pages != "on" {
		notes = append(notes, "the server has full_page_writes = off: a crash of its machine may damage its tables")
	}

	return notes, nil
}

// Observe reads the row of the cursor.
func (s *sink) Observe(ctx context.Context) (streams.Cursor, error) {
	s.observing.Lock()
	defer s.observing.Unlock()

	conn, err := s.observer(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	has, err := s.hasTables(ctx, conn)
	if err != nil || !has {
		return streams.Cursor{}, err
	}

	c, err := scanCursor(conn.QueryRow(ctx, s.sql("select "+cursorColumns+" from @.cursor")))
	if err != nil {
		return streams.Cursor{}, err
	}

	// A long transaction shows no beat before its end, but the server tells how far its COPY is.
	var copied uint64
	err = conn.QueryRow(ctx, "select coalesce(sum(bytes_processed), 0)::bigint from pg_stat_progress_copy "+
		"where relid in (to_regclass($1), to_regclass($2))", s.schema+".events", s.schema+".next_events").Scan(&copied)
	c.Beat += copied

	return c, classify(err)
}

// Close ends the sessions. What a transaction had not committed is rolled back.
func (s *sink) Close(context.Context) error {
	hangUp(s.conn)
	s.observing.Lock()
	defer s.observing.Unlock()
	hangUp(s.observe)
	for _, conn := range s.free {
		hangUp(conn)
	}

	return nil
}

// Check says what would hinder the sink.
func (s *sink) Check(ctx context.Context) ([]string, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)

	notes, err := checkServer(ctx, conn)
	if err != nil {
		return nil, err
	}

	has, err := s.hasTables(ctx, conn)
	if err != nil {
		return nil, err
	}
	if has {
		return notes, s.checkTables(ctx, conn)
	}

	var create bool
	err = conn.QueryRow(ctx, "select case when to_regnamespace($1) is null then "+
		"has_database_privilege(current_database(), 'create') else has_schema_privilege($1, 'create') end", s.schema).
		Scan(&create)
	if err == nil && !create {
		return nil, streams.Fail(streams.Unauthorised, fmt.Errorf("the user may not create the schema %s and its "+
			"tables; as the owner of the database: grant create on database … to …", s.schema))
	}

	return append(notes, "the tables will be made in schema "+s.schema), classify(err)
}

// Forget drops the tables, and the schema unless it has others.
func (s *sink) Forget(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)

	if _, err := conn.Exec(ctx, s.sql("drop table if exists @.events, @.blocks, @.cursor, @.next_events, @.chunks, "+
		"@.generations")); err != nil {
		return classify(err)
	}
	if _, err := conn.Exec(ctx, s.sql("drop schema if exists @ restrict")); err != nil &&
		streams.ClassOf(classify(err)) != streams.Misconfigured {
		return classify(err)
	}

	return nil
}

// scanCursor reads cursorColumns.
func scanCursor(row pgx.Row) (c streams.Cursor, err error) {
	err = row.Scan(&c.Epoch, &c.Beat, &c.ChainID, &c.Period, &c.Height, &c.Events, &c.BlockHash, &c.AppHash, &c.Digest,
		&c.Definition)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		err = classify(err)
	}
	return c, err
}
