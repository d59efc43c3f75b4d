package supervisor_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/supervisor"
)

func benchDynamic(b *testing.B) *supervisor.Dynamic[int] {
	b.Helper()
	d, err := supervisor.NewDynamic(supervisor.DynamicSpec[int]{Restart: supervisor.Temporary,
		Start: func(context.Context, int) (supervisor.Service, error) {
			return supervisor.ServiceFunc(func(context.Context) error { return nil }), nil
		}})
	require.NoError(b, err)
	_, _ = tree(b, supervisor.Spec{
		Build: children(supervisor.Child{ID: "d", Start: func(context.Context) (supervisor.Service, error) {
			return d, nil
		}})})
	b.ReportAllocs()
	b.ResetTimer()

	return d
}

// One short-lived temporary child: start, acknowledgment, normal end.
func BenchmarkDynamicStartChild(b *testing.B) {
	d := benchDynamic(b)
	for b.Loop() {
		if _, err := d.StartChild(ctx, "", 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDynamicStartChildParallel(b *testing.B) {
	d := benchDynamic(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := d.StartChild(ctx, "", 1); err != nil {
				b.Error(err)
			}
		}
	})
}

// The bare cost of a goroutine with a context and a channel, to compare with.
func BenchmarkGoroutineBaseline(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		c, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); defer cancel(); _ = c.Err() }()
		<-done
	}
}

// BenchmarkRestartOneForOne measures the time from a crash until the next incarnation serves.
func BenchmarkRestartOneForOne(b *testing.B) {
	p := newProbe("p")
	_, _ = tree(b, supervisor.Spec{Intensity: many(1 << 40), Build: children(p.child(0))})
	<-p.starts
	b.ReportAllocs()
	for b.Loop() {
		p.end(errCrash)
		<-p.starts
	}
}

// A management call that does nothing: the way through the mailbox and back.
func BenchmarkCall(b *testing.B) {
	r, _ := tree(b, supervisor.Spec{})
	b.ReportAllocs()
	for b.Loop() {
		_ = r.DeleteChild(ctx, "nobody")
	}
}

func BenchmarkTree(b *testing.B) {
	var list []supervisor.Child
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		list = append(list, supervisor.Child{ID: id, Start: idle})
	}

	r, _ := tree(b, supervisor.Spec{Build: children(list...)})
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Tree()
	}
}

// scale_start_stop_many_children: must be linear in the number of children.
func BenchmarkStartStop(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			list := make([]supervisor.Child, n)
			for i := range list {
				list[i] = supervisor.Child{ID: strconv.Itoa(i), Start: idle}
			}

			s, err := supervisor.New(supervisor.Spec{Build: children(list...)})
			require.NoError(b, err)

			for b.Loop() {
				r, err := s.Start(ctx)
				require.NoError(b, err)
				require.NoError(b, r.Stop(ctx))
			}

			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/child")
		})
	}
}
