package engines_test

import (
	"context"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/suptest"
)

// ask is a call that runs a function in the handler and answers with its error.
type ask struct {
	do func(ctx context.Context) error
}

func (ask) Answer(struct{}) {}

// tell is a cast that runs a function in the handler.
type tell struct {
	do func(ctx context.Context)
}

// willing returns the spec of an engine that takes ask and tell.
func willing(name string, mailbox int) engines.Spec {
	return engines.Spec{Name: name, Mailbox: mailbox, Init: takeAskAndTell}
}

func takeAskAndTell(_ context.Context, s *engines.Server) error {
	engines.OnCall(s, func(ctx context.Context, q ask, from engines.From[struct{}]) error {
		from.Answer(struct{}{}, q.do(ctx))
		return nil
	})
	engines.OnCast(s, func(ctx context.Context, m tell) error { m.do(ctx); return nil })
	return nil
}

// bubble runs body in a synctest bubble with a router and one engine for each spec. The ID of the
// child is the name of its engine.
func bubble(t *testing.T, body func(t *testing.T, dir *router.Directory, run *supervisor.Run), specs ...engines.Spec) {
	dir := router.NewDirectory()
	children := []supervisor.Child{{ID: router.Name, Start: router.Child(dir)}}
	for _, spec := range specs {
		children = append(children, supervisor.Child{ID: spec.Name, Start: spec.Start(dir)})
	}

	suptest.Run(t, supervisor.Spec{
		Name: "test", Intensity: supervisor.Intensity{Max: 10, Period: time.Hour},
		Build: supervisor.Children(children...),
	}, func(t *testing.T, run *supervisor.Run, _ *suptest.Recorder) { body(t, dir, run) })
}

// call has the engine run do and returns its error.
func call(ctx context.Context, dir engines.Directory, engine string, do func(context.Context) error) error {
	_, err := engines.Call(ctx, engines.NewAddress(dir, engine), ask{do})
	return err
}

// nothing does nothing.
func nothing(context.Context) error { return nil }
