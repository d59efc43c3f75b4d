package manager

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

// idle is a target that is asked for nothing.
type idle struct{ Target }

func (idle) Begin(context.Context) error                 { return nil }
func (idle) End(context.Context)                         {}
func (idle) Work() <-chan func(context.Context)          { return nil }
func (idle) Gentle(context.Context) (string, error)      { return "done", nil }
func (idle) Hard(context.Context, Reset) (string, error) { return "done", nil }

// The machine is a child like any other: it can be killed by a panic and by Goexit, and its next
// life serves the requests.
func TestTheMachineTakesFaults(t *testing.T) {
	m := NewMachine(idle{}, nil, nil)
	sup, err := supervisor.New(supervisor.Spec{Name: "test",
		Intensity: supervisor.Intensity{Max: 10, Period: time.Minute},
		Build: supervisor.Children(supervisor.Child{ID: "machine",
			Start: func(context.Context) (supervisor.Service, error) { return m, nil }})})
	require.NoError(t, err)
	run, err := sup.Start(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, run.Stop(context.Background())) }()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, do := range []func(context.Context){
		func(context.Context) { panic("a fault") }, func(context.Context) { runtime.Goexit() },
	} {
		require.NoError(t, run.Inject(ctx, "machine", supervisor.Fault{Name: "fault", Do: do}))
		_, err = m.Gentle(ctx)
		require.NoError(t, err)
	}
}
