package engines_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coppice-go/coppice/engines"
	"github.com/coppice-go/coppice/engines/router"
	"github.com/coppice-go/coppice/supervisor"
)

// Balance is a query: its answer is an int.
type Balance struct{ Account string }

// Answer declares the type of the answer. Nothing calls it.
func (Balance) Answer(int) {}

// serve runs f with the directory of a tree with a router and an engine named bank, whose Init is
// given.
func serve(init func(context.Context, *engines.Server) error, f func(dir engines.Directory)) {
	dir := router.NewDirectory()
	sup, err := supervisor.New(supervisor.Spec{Build: supervisor.Children(
		supervisor.Child{ID: "router", Start: router.Child(dir)},
		supervisor.Child{ID: "bank", Start: engines.Spec{Name: "bank", Init: init}.Start(dir)},
	)})
	if err != nil {
		fmt.Println(err)
		return
	}

	run, err := sup.Start(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}

	f(dir)

	if err := run.Stop(context.Background()); err != nil {
		fmt.Println(err)
	}
}

// A timeout is a deadline of the caller's context. It travels with the call: the handler's context
// ends by then too, so nothing works for a caller that has gone. The engine goes on.
func ExampleCall_timeout() {
	serve(func(_ context.Context, s *engines.Server) error {
		engines.OnCall(s, func(ctx context.Context, q Balance, from engines.From[int]) error {
			if q.Account == "slow" {
				<-ctx.Done() // stands for a call to another engine, or for a query, with ctx
				return ctx.Err()
			}
			from.Reply(100)
			return nil
		})
		return nil
	}, func(dir engines.Directory) {
		bank := engines.NewAddress(dir, "bank")

		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_, err := engines.Call(ctx, bank, Balance{"slow"})
		fmt.Println("slow, in time:", !errors.Is(err, context.DeadlineExceeded))

		n, err := engines.Call(context.Background(), bank, Balance{"alice"})
		fmt.Println("alice:", n, err)
	})
	// Output:
	// slow, in time: false
	// alice: 100 <nil>
}

// An engine that calls itself would wait for itself, so the call returns an error at once. What the
// engine wants to do after the present message, it posts to itself.
func ExampleCall_self() {
	type audit struct{}
	audited := make(chan struct{})
	var bank engines.Address

	serve(func(_ context.Context, s *engines.Server) error {
		engines.OnCast(s, func(context.Context, audit) error {
			close(audited)
			return nil
		})
		engines.OnCall(s, func(ctx context.Context, q Balance, from engines.From[int]) error {
			_, err := engines.Call(ctx, bank, Balance{"another"})
			fmt.Println("would deadlock:", errors.Is(err, engines.ErrWouldDeadlock))
			s.Post(audit{})
			from.Reply(100)
			return nil
		})
		return nil
	}, func(dir engines.Directory) {
		bank = engines.NewAddress(dir, "bank")
		fmt.Println(engines.Call(context.Background(), bank, Balance{"alice"}))
		<-audited
	})
	// Output:
	// would deadlock: true
	// 100 <nil>
}

// A timer posts a message. It need not be stopped when the engine ends: nothing takes the message
// then. A handler that starts the timer again makes it periodic.
func ExampleServer_Post_timer() {
	type tick struct{}
	ticked := make(chan int)

	serve(func(_ context.Context, s *engines.Server) error {
		n := 0
		again := func() { time.AfterFunc(time.Millisecond, func() { s.Post(tick{}) }) }

		engines.OnCast(s, func(ctx context.Context, _ tick) error {
			n++
			if n == 3 {
				ticked <- n
				return nil
			}
			again()
			return nil
		})
		again()

		return nil
	}, func(engines.Directory) {
		fmt.Println("ticks:", <-ticked)
	})
	// Output:
	// ticks: 3
}
