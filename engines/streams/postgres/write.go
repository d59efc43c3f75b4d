package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/coppice-go/coppice/engines/streams"
)

// Write writes the units of d, one or several in a transaction.
func (s *sink) Write(ctx context.Context, d streams.Delivery) error {
	return streams.InBatches(ctx, d, s.beat, s.transaction)
}

// transaction writes units of d, of which first is the first event, until they are enough.
func (s *sink) transaction(ctx context.Context, d streams.Delivery, first streams.Event) (err error) {
	defer s.rollBackIf(ctx, &err)
	c := &copier{ctx: ctx, delivery: d, opening: s.opening, first: &first}
	if c.at, err = s.lock(ctx); err != nil {
		return err
	}

	_, err = s.conn.PgConn().CopyFrom(ctx, c, s.sql("copy @.events ("+eventColumns+") from stdin binary"))
	switch {
	case c.err != nil: // of the delivery; the server only heard that the copy is off
		return c.err
	case err != nil:
		return c.refused(err)
	}

	return s.move(ctx, c)
}

// rollBackIf ends a transaction that failed. If even that fails, it closes the connection.
func (s *sink) rollBackIf(ctx context.Context, err *error) {
	if *err == nil || s.conn.IsClosed() {
		return
	}
	if _, failed := s.conn.Exec(ctx, "rollback"); failed != nil {
		hangUp(s.conn)
	}
}

// lock begins a transaction, locks the row of the cursor and returns it, if the claim still counts.
// All of that is one message to the server.
func (s *sink) lock(ctx context.Context) (c streams.Cursor, err error) {
	answers := s.conn.PgConn().Exec(ctx, s.beginning()+s.sql("; select "+cursorColumns+" from @.cursor for update"))
	found := false
	for answers.NextResult() {
		rows := pgx.RowsFromResultReader(s.conn.TypeMap(), answers.ResultReader())
		for rows.Next() {
			found = true
			if c, err = scanCursor(rows); err != nil {
				return c, errors.Join(err, answers.Close())
			}
		}
		rows.Close()
	}
	if err := answers.Close(); err != nil {
		return c, classify(err)
	}
	if !found || c.Epoch != s.opening.Epoch {
		return c, fenced(s.opening.Epoch, c.Epoch)
	}

	return c, nil
}

// begin begins a transaction of this writer.
func (s *sink) begin(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.PgConn().Exec(ctx, s.beginning()).ReadAll()
	return classify(err)
}

// beginning is the SQL that begins a transaction of this writer.
func (s *sink) beginning() string {
	return fmt.Sprintf("begin; set local synchronous_commit = %s; set local application_name = '%s'",
		s.keys.SynchronousCommit, s.session(s.opening.Epoch))
}

// move writes the rows of the units that c has copied, moves the cursor after the last one, and
// commits. It sends all of that at once: the server skips what comes after an error, and the row of
// the cursor is locked, so that nobody changes its epoch in between.
func (s *sink) move(ctx context.Context, c *copier) error {
	if len(c.ends) == 0 {
		_, err := s.conn.Exec(ctx, "commit")
		return c.refused(err)
	}

	batch := &pgx.Batch{}
	s.queueBlocks(batch, c.ends)
	last := c.at
	batch.Queue(s.sql(`update @.cursor set beat = beat + 1, chain = $2, period = $3, height = $4, events = $5,
		block_hash = $6, app_hash = $7, digest = $8, definition = $9 where epoch = $1`), int64(s.opening.Epoch),
		last.ChainID, int64(last.Period), int64(last.Height), int64(last.Events), orEmpty(last.BlockHash),
		orEmpty(last.AppHash), orEmpty(last.Digest), s.opening.Definition)
	batch.Queue("commit")

	results := s.conn.SendBatch(ctx, batch)
	defer results.Close()
	if _, err := results.Exec(); err != nil {
		return c.refused(err)
	}
	tag, err := results.Exec()
	if err != nil {
		return c.refused(err)
	}
	if tag.RowsAffected() != 1 {
		return fenced(s.opening.Epoch, 0)
	}
	_, err = results.Exec()

	return c.refused(err)
}

// queueBlocks queues the insertion of the rows of units. One row, the common case while the sink is
// level, has a statement of its own: the server plans it in a fraction of the time.
func (s *sink) queueBlocks(batch *pgx.Batch, ends []unitEnd) {
	if len(ends) == 1 {
		c := ends[0].cursor
		batch.Queue(s.sql("insert into @.blocks ("+blockColumns+") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
			int64(c.Period), int64(c.Height), c.ChainID, c.BlockHash, c.AppHash, c.Digest, s.opening.Definition,
			int64(c.Events), int64(ends[0].delivered), int64(ends[0].index))
		return
	}

	var heights, periods, events, delivered, indexes []int64
	var blocks, apps, digests [][]byte
	var chains []string
	for _, e := range ends {
		periods, heights = append(periods, int64(e.cursor.Period)), append(heights, int64(e.cursor.Height))
		chains, events = append(chains, e.cursor.ChainID), append(events, int64(e.cursor.Events))
		delivered, indexes = append(delivered, int64(e.delivered)), append(indexes, int64(e.index))
		blocks, apps = append(blocks, e.cursor.BlockHash), append(apps, e.cursor.AppHash)
		digests = append(digests, e.cursor.Digest)
	}

	batch.Queue(s.sql(`insert into @.blocks (`+blockColumns+`)
		select p, h, c, b, a, d, $10, e, n, i from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[],
		$5::bytea[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[]) as u (p, h, c, b, a, d, e, n, i)`),
		periods, heights, chains, blocks, apps, digests, events, delivered, indexes, s.opening.Definition)
}

// orEmpty returns b, and an empty slice for nil, which would be NULL.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// copyLine is how the server names the row of a COPY that it refuses.
var copyLine = regexp.MustCompile(`^COPY \S+, line (\d+)`)

// refused classifies an error of the server. If the server names a row, the error names its event.
func (c *copier) refused(err error) error {
	err = classify(err)
	if streams.ClassOf(err) != streams.RejectedEvent {
		return err
	}

	at := c.place
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		m := copyLine.FindStringSubmatch(pg.Where)
		if m == nil {
			// Without a row it is about the whole transaction: nothing of it can be put aside.
			return &streams.Failure{Class: streams.Misconfigured, Err: errors.Unwrap(err)}
		}
		if line, _ := strconv.Atoi(m[1]); line >= 1 && line <= len(c.places) {
			at = c.places[line-1].place(at.ChainID)
		}
	}

	return streams.Reject(at, errors.Unwrap(err))
}
