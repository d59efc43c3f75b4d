package storage

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Item 66: events count toward the room of a block, the app hash does not cover them, and a result
// that is asked for by its id has none.
func TestEventsCountAndAreNotState(t *testing.T) {
	event := &logv1.Emitted{Type: strings.Repeat("x", 60_000)}
	hash := map[int][]byte{}

	for _, events := range []int{0, 1, 600} {
		d := started(t)
		raw := tx(t, 1, genesis.Add(window))
		_, err := d.Begin(block(d, genesis, raw))
		require.NoError(t, err)

		r := &logv1.TxResult{}
		for range events {
			r.Events = append(r.Events, event)
		}
		require.NoError(t, d.Finish(chain.Version{Period: 1, Height: 1}, nil, r))
		s, err := d.Seal()
		require.NoError(t, err)
		hash[events] = s.AppHash

		if events == 600 {
			require.Equal(t, logv1.Code_CODE_LIMIT, s.Results[0].Code)
			require.Empty(t, s.Results[0].Events)
			continue
		}

		require.Len(t, s.Results[0].Events, events)
		require.NoError(t, d.Commit(2, committed(s)))
		kept, _, err := d.Result(chain.HashTx(raw))
		require.NoError(t, err)
		require.Equal(t, logv1.Code_CODE_OK, kept.Code)
		require.Empty(t, kept.Events)
	}

	require.Equal(t, hash[0], hash[1])
}

func TestAFailedTransactionCannotHaveEvents(t *testing.T) {
	d := started(t)
	_, err := d.Begin(block(d, genesis, tx(t, 1, genesis.Add(window))))
	require.NoError(t, err)
	err = d.Finish(chain.Version{Period: 1, Height: 1}, nil,
		&logv1.TxResult{Code: logv1.Code_CODE_FAILED, Events: []*logv1.Emitted{{Type: "a"}}})
	require.ErrorContains(t, err, "1 events of a transaction that ended with CODE_FAILED")
}
