package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/node/offline"
)

// holdsOf returns which holds of a part begin at or below a record.
func holdsOf(p offline.Part, record uint64) (names []string) {
	for _, h := range p.Holds {
		if h.First <= record {
			names = append(names, h.Name)
		}
	}
	return names
}

// I1: a pruning of the stopped home keeps an acknowledged transaction without a result, and names
// it. Without one, it keeps what a follower of the log has not read, although the follower's
// retainer has ended with the node.
func TestAPruningKeepsWhatIsAcknowledgedAndWhatAFollowerNeeds(t *testing.T) {
	h := truncating(t)
	waits := h.submit(h.tx(kv.Put([]byte("waiting"), []byte("yes")), time.Minute))[0]
	require.NoError(t, waits.Err)
	h = retentionRounds(t, h, 4, nil)
	h.close()

	p, err := offline.Prune(t.Context(), h.home, offline.PruneOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"pool: the oldest acknowledged transaction without a result"}, holdsOf(p.Log, 2))
	require.LessOrEqual(t, p.Log.Kept, uint64(2))

	h = driveHome(t, h.home)
	require.True(t, endOf(t, h, waits.ID).Known, "it was acknowledged (I1)")
	b := h.next(h.tx(kv.Put([]byte("waiting"), []byte("yes")), time.Minute))
	h.order(b)
	h.commit(b)
	first, err := h.log.First(t.Context())
	require.NoError(t, err)
	follow := func(h *hand) {
		_, err := h.log.Retain(t.Context(), "sink", first)
		require.NoError(t, err)
	}
	follow(h)
	h = retentionRounds(t, h, 3, follow)
	h.close()

	p, err = offline.Prune(t.Context(), h.home, offline.PruneOptions{})
	require.NoError(t, err)
	require.Contains(t, holdsOf(p.Log, first), "follower sink")
	require.Equal(t, first, p.Log.Kept)
	v, err := offline.Verify(t.Context(), h.home, offline.VerifyOptions{})
	require.NoError(t, err)
	require.Equal(t, first, v.First)
}
