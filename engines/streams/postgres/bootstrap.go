package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/coppice-go/coppice/engines/streams"
)

// A generation is made in tables of its own. generations says which one events is, and which one
// is being made; chunks says what next_events has.
const (
	generationTable = `create table if not exists @.generations (id text primary key, live boolean not null)`

	nextTables = `
drop table if exists @.next_events, @.chunks;
create table @.next_events (like @.events including all);
create table @.chunks (number integer primary key);
comment on table @.next_events is 'a generation that is being made, and then becomes events';
comment on table @.chunks is 'the parts of next_events that are whole';
delete from @.generations where not live`

	// takePlace gives the new table the grants and the names of the old one.
	takePlace = `
do $$ declare g record; begin
	for g in select a.grantee, a.privilege_type as may from pg_class c, aclexplode(c.relacl) a
		where c.oid = '@.events'::regclass and a.grantee <> c.relowner loop
		execute format('grant %s on @.next_events to %s', g.may,
			case when g.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end);
	end loop;
	drop table @.events;
	alter table @.next_events rename to events;
	for g in select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid
		where i.indrelid = '@.events'::regclass and c.relname like 'next\_events\_%' loop
		execute format('alter index @.%I rename to %I', g.name, substr(g.name, 6));
	end loop;
end $$;
comment on table @.events is 'the events; a change without a value is a deletion';
drop table @.chunks;
delete from @.generations;
truncate @.blocks`
)

// Bootstrap makes the tables of a generation, or looks which chunks they have. The sessions of
// older writers are ended, because one that is stopped amid a chunk would hold its rows.
func (s *sink) Bootstrap(ctx context.Context, generation string) (done map[int]bool, swapped bool, err error) {
	if err := s.endOlderWriters(ctx); err != nil {
		return nil, false, err
	}
	s.generation = generation

	defer s.rollBackIf(ctx, &err)
	if _, err := s.lock(ctx); err != nil {
		return nil, false, err
	}
	if err := s.all(ctx, generationTable); err != nil {
		return nil, false, err
	}
	err = s.conn.QueryRow(ctx, s.sql("select live from @.generations where id = $1"), generation).Scan(&swapped)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		if err := s.all(ctx, nextTables); err != nil {
			return nil, false, err
		}
		if _, err := s.conn.Exec(ctx, s.sql("insert into @.generations values ($1, false)"), generation); err != nil {
			return nil, false, classify(err)
		}
	case err != nil:
		return nil, false, classify(err)
	case !swapped:
		if done, err = s.chunksThere(ctx); err != nil {
			return nil, false, err
		}
	}
	_, err = s.conn.Exec(ctx, "commit")

	return done, swapped, classify(err)
}

// all runs statements without arguments.
func (s *sink) all(ctx context.Context, text string) error {
	_, err := s.conn.PgConn().Exec(ctx, s.sql(text)).ReadAll()
	return classify(err)
}

func (s *sink) chunksThere(ctx context.Context) (map[int]bool, error) {
	rows, err := s.conn.Query(ctx, s.sql("select number from @.chunks"))
	if err != nil {
		return nil, classify(err)
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, classify(err)
	}

	done := make(map[int]bool)
	for _, n := range numbers {
		done[n] = true
	}
	return done, nil
}

// Chunk copies a chunk over a connection of its own, in one transaction, which checks the epoch at
// its end, so that the row of the cursor is locked for a moment only.
func (s *sink) Chunk(ctx context.Context, c streams.Chunk, d streams.Delivery) (err error) {
	conn, err := s.borrow(ctx)
	if err != nil {
		return err
	}
	defer func() { s.giveBack(conn, err) }()

	if err := s.begin(ctx, conn); err != nil {
		return err
	}
	copied := &copier{ctx: ctx, delivery: d, opening: s.opening, part: true}
	_, err = conn.PgConn().CopyFrom(ctx, copied, s.sql("copy @.next_events ("+eventColumns+") from stdin binary"))
	switch {
	case copied.err != nil:
		return copied.err
	case err != nil:
		return copied.refused(err)
	}

	batch := &pgx.Batch{}
	batch.Queue(s.sql("insert into @.chunks select $1 from @.generations where id = $2 and not live"), c.Number,
		s.generation)
	batch.Queue(s.sql("update @.cursor set beat = beat + 1 where epoch = $1"), int64(s.opening.Epoch))
	results := conn.SendBatch(ctx, batch)
	defer results.Close()
	for range batch.Len() {
		tag, err := results.Exec()
		if err == nil && tag.RowsAffected() != 1 {
			return fenced(s.opening.Epoch, 0)
		}
		if err != nil {
			return classify(err)
		}
	}
	if err := results.Close(); err != nil {
		return classify(err)
	}
	_, err = conn.Exec(ctx, "commit")

	return classify(err)
}

// borrow returns a connection for a chunk.
func (s *sink) borrow(ctx context.Context) (*pgx.Conn, error) {
	s.observing.Lock()
	n := len(s.free)
	if n > 0 {
		conn := s.free[n-1]
		s.free = s.free[:n-1]
		s.observing.Unlock()
		return conn, nil
	}
	s.observing.Unlock()

	return s.connect(ctx)
}

// giveBack keeps a connection for another chunk, unless its last one failed.
func (s *sink) giveBack(conn *pgx.Conn, err error) {
	if err != nil {
		hangUp(conn) // the server rolls back
		return
	}
	s.observing.Lock()
	defer s.observing.Unlock()
	s.free = append(s.free, conn)
}

// Swap puts the tables of the generation in the place of the others, and moves the cursor, in one
// transaction.
func (s *sink) Swap(ctx context.Context, _ streams.Chunk, end streams.Event) (_ streams.Cursor, err error) {
	defer s.rollBackIf(ctx, &err)
	now, err := s.lock(ctx)
	if err != nil {
		return streams.Cursor{}, err
	}
	if err := s.all(ctx, takePlace); err != nil {
		return streams.Cursor{}, fmt.Errorf("the new generation cannot take the place of table %s.events: %w",
			s.keys.Schema, err)
	}
	if _, err := s.conn.Exec(ctx, s.sql("insert into @.generations values ($1, true)"), s.generation); err != nil {
		return streams.Cursor{}, classify(err)
	}

	c := &copier{opening: s.opening}
	c.at.Epoch, c.at.Beat = now.Epoch, now.Beat
	if err := c.end(end, end.Body.(*streams.End)); err != nil {
		return streams.Cursor{}, err
	}

	return c.at, s.move(ctx, c)
}
