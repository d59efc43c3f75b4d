package supervisor

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// The goroutine that acknowledged a start may come late to hand on, when the run has taken the turn
// and stops that very child. It must not take the stop for over (OTP rule 62).
func TestRule62_ALateAcknowledgmentIsNoEnd(t *testing.T) {
	s, err := New(Spec{Build: Children(Child{ID: "a", Start: Start(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})})})
	require.NoError(t, err)
	r, err := s.Start(context.Background())
	require.NoError(t, err)

	r.mu.Lock()
	rec := r.records[0]
	inc := rec.inc
	r.row = row{list: []*record{rec}, at: 1, stops: true, cur: inc}
	r.mu.Unlock()
	r.handOn(inc)

	r.mu.Lock()
	require.Same(t, inc, r.row.cur)
	require.False(t, inc.handed)
	r.row = row{}
	r.mu.Unlock()
	require.NoError(t, r.Stop(context.Background()))
}
