package offline

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/exit"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Item 66: verify compares what transactions emitted.
func TestVerifyComparesEmittedEvents(t *testing.T) {
	result := func(types ...string) []*logv1.TxResult {
		r := &logv1.TxResult{}
		for _, typ := range types {
			r.Events = append(r.Events, &logv1.Emitted{Type: typ, Attributes: []*logv1.Attribute{{Key: "k"}}})
		}
		return []*logv1.TxResult{r}
	}

	logged := &logv1.BlockCommitted{Height: 3, Results: result("a", "b")}
	require.NoError(t, sameOutcome(chain.Staged{Results: result("a", "b")}, logged))

	for _, types := range [][]string{{"a"}, {"b", "a"}, {"a", "c"}, {}, {"a", "b", "b"}} {
		err := sameOutcome(chain.Staged{Results: result(types...)}, logged)
		require.ErrorIs(t, err, exit.ErrDamage, "%v", types)
		require.ErrorContains(t, err, "block 3, transaction 0")
	}
}
