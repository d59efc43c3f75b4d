package node

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/node/offline"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// A block is committed even if the results of its transactions are larger than a record of the log
// can be. The transactions whose results have no room left are refused, and their submitters learn
// of it (I10).
func TestABlockThatAnswersTooMuchIsCommitted(t *testing.T) {
	h := drive(t)
	b := h.next(h.tx(kv.Put([]byte("big"), []byte(strings.Repeat("x", 1_000_000))), time.Minute))
	h.order(b)
	h.commit(b)
	var reads [][]byte
	for range 150 {
		reads = append(reads, h.tx(kv.Read([]byte("big")), time.Minute))
	}

	b = h.next(reads...)
	staged := h.order(b)
	h.commit(b)
	codes := make(map[logv1.Code]int)
	for _, r := range staged.Results {
		codes[r.Code]++
	}

	require.Equal(t, map[logv1.Code]int{logv1.Code_CODE_OK: 33, logv1.Code_CODE_LIMIT: 117}, codes)
	h.close()
	v, err := offline.Verify(t.Context(), h.home, offline.VerifyOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 2, v.Height)
}
