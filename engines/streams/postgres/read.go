package postgres

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/coppice-go/coppice/engines/streams"
)

// Read reads the tables over two connections, in step: events from one, units from the other. It
// passes events without a unit, which cannot be the sink's own, as they come.
func (s *sink) Read(ctx context.Context, from, to streams.Position, f func(streams.Event) error) error {
	events, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(events)
	units, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(units)

	if has, err := s.hasTables(ctx, units); err != nil || !has {
		return err
	}

	const between = " where (period, height) between ($1, $2) and ($3, $4) order by period, height"
	args := []any{bigint(from.Period), bigint(from.Height), bigint(to.Period), bigint(to.Height)}
	rows, err := events.Query(ctx, s.sql("select "+eventColumns+" from @.events"+between+", index, part"), args...)
	if err != nil {
		return classify(err)
	}
	defer rows.Close()
	ends, err := units.Query(ctx, s.sql("select "+blockColumns+" from @.blocks"+between), args...)
	if err != nil {
		return classify(err)
	}
	defer ends.Close()

	r := &reader{rows: rows}
	if err := r.advance(); err != nil {
		return err
	}
	for ends.Next() {
		end, err := scanEnd(ends)
		if err != nil {
			return classify(err)
		}
		if err := r.upTo(end.Place, f); err != nil {
			return err
		}
		if err := f(end); err != nil {
			return err
		}
	}
	if err := ends.Err(); err != nil {
		return classify(err)
	}

	return r.upTo(streams.Place{Position: to}, f)
}

// maxStrays is how many places Strays returns.
const maxStrays = 1000

// Strays implements streams.StraySink: rows above the cursor, and below the first height that there
// can be. The server looks at rows and cursor as of one moment.
func (s *sink) Strays(ctx context.Context) (places []streams.Place, err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	if has, err := s.hasTables(ctx, conn); err != nil || !has {
		return nil, err
	}

	const stray = `(t.period, t.height) > (c.period, c.height) or c.chain = '' or (t.period, t.height) < (0, 0)`
	rows, err := conn.Query(ctx, s.sql(fmt.Sprintf(`select t.period, t.height, t.index
		from @.events t, @.cursor c where %s
		union all select t.period, t.height, t.end_index from @.blocks t, @.cursor c where %s
		order by 1, 2, 3 limit %d`, stray, stray, maxStrays)))
	if err != nil {
		return nil, classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		var period, height, index int64
		if err := rows.Scan(&period, &height, &index); err != nil {
			return nil, classify(err)
		}
		places = append(places, streams.Place{Position: streams.Position{Period: uint64(max(period, 0)),
			Height: uint64(max(height, 0))}, Index: uint64(max(index, 0))})
	}

	return places, classify(rows.Err())
}

// bigint returns the nearest number that PostgreSQL has.
func bigint(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// scanEnd reads blockColumns.
func scanEnd(rows pgx.Rows) (streams.Event, error) {
	var e streams.Event
	var definition string
	end := &streams.End{}
	err := rows.Scan(&e.Period, &e.Height, &e.ChainID, &end.BlockHash, &end.AppHash, &end.Digest, &definition,
		&end.Events, &end.Delivered, &e.Index)
	e.Body = end

	return e, err
}

// reader hands on the rows of events.
type reader struct {
	rows pgx.Rows
	held bool
	row  row
	at   streams.Place
	part uint32
	kind string
}

// advance reads the next row, if there is one.
func (r *reader) advance() error {
	r.held = r.rows.Next()
	if !r.held {
		return classify(r.rows.Err())
	}

	var tx *uint32
	r.row = row{}
	err := r.rows.Scan(&r.at.Period, &r.at.Height, &r.at.Index, &r.part, &r.kind, &tx, &r.row.key, &r.row.value,
		&r.row.decoded, &r.row.body)
	if tx != nil {
		r.row.tx, r.row.hasTx = *tx, true
	}

	return classify(err)
}

// upTo passes the events up to and in the unit at a place, as events of that unit's chain.
func (r *reader) upTo(unit streams.Place, f func(streams.Event) error) error {
	for r.held && r.at.Position.Compare(unit.Position) <= 0 {
		r.at.ChainID = unit.ChainID
		// A row that cannot be read is damage: verify finds its event missing.
		if e, err := r.row.event(r.at, r.part, r.kind); err == nil {
			if err := f(e); err != nil {
				return err
			}
		}
		if err := r.advance(); err != nil {
			return err
		}
	}
	return nil
}
