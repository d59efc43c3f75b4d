package events

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
)

// A change of the process of the consensus reaches a stream whose filter matches it, in the form in
// which clients have it.
func TestChangesOfTheProcessAreStreamed(t *testing.T) {
	s := New(Options{Log: func() (Log, error) { return nil, errors.New("down") }})
	got := make(chan *apiv1.EventsResponse, 16)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	q := api.EventsQuery{FromNow: true, Filter: "type=process,reason=QUORUM"}
	go func() {
		ended <- s.Events(ctx, q, func(m *apiv1.EventsResponse) error {
			if m.GetEvent() != nil {
				got <- m
			}
			return nil
		})
	}()
	again := time.NewTicker(5 * time.Millisecond) // the stream may not be open yet, and events are live only
	defer again.Stop()
	limit := time.After(time.Minute)

	for {
		s.Changed(engines.ReadinessChanged{State: "ready"})
		s.Changed(engines.ProcessChanged{State: "running", Text: "CometBFT is up"})
		s.Changed(engines.ProcessChanged{State: "stalled", Text: "no quorum", Restarts: 1})
		select {
		case m := <-got:
			require.Equal(t, "stalled", m.GetProcess().GetState())
			require.EqualValues(t, 1, m.GetProcess().GetRestarts())
			e, err := client.EventOf(m)
			require.NoError(t, err)
			require.Equal(t, "process", e.Type())
			line, err := e.MarshalJSON()
			require.NoError(t, err)
			require.JSONEq(t, `{"type":"process","kind":"ProcessChanged","time":"1970-01-01T00:00:00Z",
				"state":"stalled","text":"no quorum"}`, string(line))
			cancel()
			<-ended
			return
		case <-again.C:
		case <-limit:
			require.FailNow(t, "no event")
		}
	}
}
