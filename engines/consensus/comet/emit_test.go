package comet

import (
	"testing"

	"github.com/stretchr/testify/require"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Rule R17: CometBFT gets the events that a transaction emitted, in their order.
func TestEventsReachCometBFT(t *testing.T) {
	got := eventsOf(&logv1.TxResult{Events: []*logv1.Emitted{
		{Type: "transfer", Attributes: []*logv1.Attribute{{Key: "to", Value: "bob"}, {Key: "to", Value: "eve"}}},
		{Type: "done"},
	}})

	require.Len(t, got, 2)
	require.Equal(t, "transfer", got[0].Type)
	require.Equal(t, "bob", got[0].Attributes[0].Value)
	require.Equal(t, "eve", got[0].Attributes[1].Value)
	require.True(t, got[0].Attributes[0].Index)
	require.Equal(t, "done", got[1].Type)
	require.Empty(t, eventsOf(&logv1.TxResult{}))
}
