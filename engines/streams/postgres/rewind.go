package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/coppice-go/coppice/engines/streams"
)

// Rewind deletes the units after to and moves the cursor back, in one transaction.
func (s *sink) Rewind(ctx context.Context, to *streams.Position) (c streams.Cursor, err error) {
	defer s.rollBackIf(ctx, &err)
	if _, err := s.lock(ctx); err != nil {
		return streams.Cursor{}, err
	}

	target := streams.Cursor{BlockHash: []byte{}, AppHash: []byte{}, Digest: []byte{}}
	if to != nil {
		err := s.conn.QueryRow(ctx, s.sql("select chain, period, height, events, block_hash, app_hash, digest, "+
			"definition from @.blocks where period = $1 and height = $2"), int64(to.Period), int64(to.Height)).
			Scan(&target.ChainID, &target.Period, &target.Height, &target.Events, &target.BlockHash, &target.AppHash,
				&target.Digest, &target.Definition)
		if errors.Is(err, pgx.ErrNoRows) {
			return streams.Cursor{}, streams.Fail(streams.Misconfigured, fmt.Errorf("the sink has no height %s", *to))
		} else if err != nil {
			return streams.Cursor{}, classify(err)
		}
	}

	after, args := "", []any{}
	if to != nil {
		after, args = " where (period, height) > ($1, $2)", []any{int64(to.Period), int64(to.Height)}
	}
	for _, table := range []string{"events", "blocks"} {
		if _, err := s.conn.Exec(ctx, s.sql("delete from @."+table+after), args...); err != nil {
			return streams.Cursor{}, classify(err)
		}
	}

	c, err = scanCursor(s.conn.QueryRow(ctx, s.sql(`update @.cursor set beat = beat + 1, chain = $1, period = $2,
		height = $3, events = $4, block_hash = $5, app_hash = $6, digest = $7, definition = $8
		returning `+cursorColumns), target.ChainID, int64(target.Period), int64(target.Height), int64(target.Events),
		target.BlockHash, target.AppHash, target.Digest, target.Definition))
	if err != nil {
		return streams.Cursor{}, err
	}
	_, err = s.conn.Exec(ctx, "commit")

	return c, classify(err)
}
