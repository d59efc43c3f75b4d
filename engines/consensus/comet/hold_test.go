package comet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager"
)

// In a hold the watchdog has the excuse "held", and CometBFT's complaint that we reject its
// proposals is not passed on. After it both are as before. Item 50.
func TestAHoldIsAnExcuse(t *testing.T) {
	seen, logs := observer.New(zapcore.InfoLevel)
	a := &app{health: newHealth(nil), log: zap.NewNop(), holds: make(chan struct{}, 1)}
	d := Driver{health: a.health, Log: zap.New(seen)}
	tr := &tree{Driver: d, app: a, starts: &starts{}, resets: newResets(d)}
	w := &watchdog{app: a, health: a.health, resets: manager.NewMachine(nil, nil, nil), log: zap.NewNop(),
		climbing: func() bool { return false }}
	rejected := []byte("E[2026-11-29|12:00:00.000] prevote step: " + sayRejected +
		"; this should not happen module=consensus")

	held := chain.State{ChainID: "test", Height: 7, Reset: &chain.Reset{Height: 7, Offset: 20}}
	a.note(held)
	require.Contains(t, w.excuse(t.Context(), time.Now()), "held")
	tr.line(rejected)
	require.Zero(t, logs.Len())

	a.note(chain.State{ChainID: "test-1", Period: 1, InitialHeight: 27, Height: 28})
	tr.line(rejected)
	require.Equal(t, 1, logs.Len())
	require.Equal(t, zapcore.WarnLevel, logs.All()[0].Level)
}
