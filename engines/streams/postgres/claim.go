package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coppice-go/coppice/engines/streams"
)

// claim raises the epoch in the row of the cursor, and returns the row.
func (s *sink) claim(ctx context.Context) (streams.Cursor, error) {
	for {
		c, err := s.tryClaim(ctx)
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != "55P03" {
			return c, err
		}
		if err := s.endOlderWriters(ctx); err != nil {
			return streams.Cursor{}, err
		}
	}
}

// tryClaim does the same as claim, and gives up soon if another session has locked the row.
func (s *sink) tryClaim(ctx context.Context) (streams.Cursor, error) {
	tx, err := s.conn.Begin(ctx)
	if err != nil {
		return streams.Cursor{}, classify(err)
	}
	defer tx.Rollback(ctx) //nolint:errcheck // after Commit it does nothing

	if _, err := tx.Exec(ctx, "set local lock_timeout = '500ms'"); err != nil {
		return streams.Cursor{}, classify(err)
	}

	c, err := scanCursor(tx.QueryRow(ctx, s.sql("select "+cursorColumns+" from @.cursor for update")))
	if err != nil {
		return streams.Cursor{}, err
	}
	if c.Epoch >= s.opening.Epoch {
		return streams.Cursor{}, fenced(s.opening.Epoch, c.Epoch)
	}

	c.Epoch, c.Beat = s.opening.Epoch, c.Beat+1
	_, err = tx.Exec(ctx, s.sql("update @.cursor set epoch = $1, holder = $2, beat = $3"), int64(c.Epoch),
		s.opening.Holder, int64(c.Beat))
	if err != nil {
		return streams.Cursor{}, classify(err)
	}

	return c, classify(tx.Commit(ctx))
}

// fenced returns the error of a writer whose claim is no longer the newest.
func fenced(own, newest uint64) error {
	return streams.Fail(streams.Fenced, fmt.Errorf("epoch %d writes to the sink, this is epoch %d", newest, own))
}

// session names the session of a writer in a transaction, so that a later claim can end it. A
// writer that was stopped amid a transaction would hold the lock of the row for ever.
func (s *sink) session(epoch uint64) string {
	sum := sha256.Sum256([]byte(s.keys.Schema))
	return fmt.Sprintf("coppice %x %d", sum[:8], epoch)
}

// endOlderWriters ends the sessions of writers with a lower epoch.
func (s *sink) endOlderWriters(ctx context.Context) error {
	name := s.session(0)
	_, err := s.conn.Exec(ctx, `select pg_terminate_backend(pid) from pg_stat_activity
		where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
		and application_name like $1 and split_part(application_name, ' ', 3)::bigint < $2`,
		name[:len(name)-1]+"%", int64(s.opening.Epoch))

	return classify(err)
}

// beat checks the epoch and changes the row of the cursor.
func (s *sink) beat(ctx context.Context) error {
	tag, err := s.conn.Exec(ctx, s.sql("update @.cursor set beat = beat + 1 where epoch = $1"),
		int64(s.opening.Epoch))
	if err != nil {
		return classify(err)
	}
	if tag.RowsAffected() == 1 {
		return nil
	}

	c, err := scanCursor(s.conn.QueryRow(ctx, s.sql("select "+cursorColumns+" from @.cursor")))
	if errors.Is(err, pgx.ErrNoRows) {
		return fenced(s.opening.Epoch, 0)
	} else if err != nil {
		return err
	}
	return fenced(s.opening.Epoch, c.Epoch)
}
