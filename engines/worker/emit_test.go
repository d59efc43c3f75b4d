package worker

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Rule R17, item 66: emitted events stand in the result in the order of the calls.
func TestEmittedEventsComeInOrder(t *testing.T) {
	s := run(t, func(v chain.View) ([]byte, error) {
		require.NoError(t, v.Emit("transfer", chain.Attribute{Key: "to", Value: "bob"}, chain.Attribute{Key: "to"}))
		return nil, v.Emit("done")
	})

	require.Equal(t, logv1.Code_CODE_OK, s.result.Code)
	require.Len(t, s.result.Events, 2)
	require.Equal(t, "transfer", s.result.Events[0].Type)
	require.Equal(t, "bob", s.result.Events[0].Attributes[0].Value)
	require.Equal(t, "to", s.result.Events[0].Attributes[1].Key)
	require.Equal(t, "done", s.result.Events[1].Type)
}

// Item 66: a failed transaction has none, and one event too many gives CODE_LIMIT.
func TestAFailedTransactionHasNoEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		code code
		want logv1.Code
		log  string
	}{
		"error": {func(v chain.View) ([]byte, error) {
			return nil, errors.Join(v.Emit("a"), errors.New("too poor"))
		}, logv1.Code_CODE_FAILED, "too poor"},
		"panic": {func(v chain.View) ([]byte, error) {
			v.Emit("a")
			panic("oh")
		}, logv1.Code_CODE_PANICKED, "oh"},
		"one too many": {func(v chain.View) ([]byte, error) {
			for range chain.DefaultParams().MaxTxOps + 1 {
				v.Emit("a")
			}
			return nil, nil
		}, logv1.Code_CODE_LIMIT, "more than 10000"},
		"too long": {func(v chain.View) ([]byte, error) {
			v.Emit("a")
			v.Emit("b", chain.Attribute{Value: strings.Repeat("x", chain.MaxEmittedBytes)})
			return nil, nil
		}, logv1.Code_CODE_LIMIT, "want at most 65536"},
		"no type": {func(v chain.View) ([]byte, error) {
			return nil, v.Emit("")
		}, logv1.Code_CODE_LIMIT, "no type"},
		"not UTF-8": {func(v chain.View) ([]byte, error) {
			return nil, v.Emit("a", chain.Attribute{Key: "\xff"})
		}, logv1.Code_CODE_LIMIT, "not UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			s := run(t, tc.code)
			require.Equal(t, tc.want, s.result.Code)
			require.Contains(t, s.result.Log, tc.log)
			require.Empty(t, s.result.Events)
		})
	}
}

func TestTheLongestEventFits(t *testing.T) {
	fits := strings.Repeat("x", chain.MaxEmittedBytes-chain.EmittedOverhead-chain.AttributeOverhead-1)
	s := run(t, func(v chain.View) ([]byte, error) { return nil, v.Emit("a", chain.Attribute{Value: fits}) })
	require.Equal(t, logv1.Code_CODE_OK, s.result.Code)
	require.Len(t, s.result.Events, 1)
}
