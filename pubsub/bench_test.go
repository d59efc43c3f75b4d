package pubsub

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/coppice-go/coppice/supervisor"
)

// BenchmarkPublish measures the time per event from Publish to the last of N readers, with up to
// 1024 events under way. deliveries/s is N events divided by that time.
func BenchmarkPublish(b *testing.B) {
	const window = 1024
	for _, filters := range []int{0, 1, 3} {
		for _, n := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("filters=%d/subscribers=%d", filters, n), func(b *testing.B) {
				bus, err := New[note](Options{Mailbox: window})
				if err != nil {
					b.Fatal(err)
				}
				tree, err := supervisor.New(bus.Spec())
				if err != nil {
					b.Fatal(err)
				}
				run, err := tree.Start(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = run.Stop(context.Background()) }()

				if err := bus.WaitUp(context.Background()); err != nil {
					b.Fatal(err)
				}

				chain := Chain[note]{kind.Is("k"), path.Is("p"), path.Is("p/q")}[:filters]
				var read sync.WaitGroup // counts the windows of events that are under way to the readers

				for range n {
					s, err := bus.Subscribe(context.Background(), chain, Disconnect{window})
					if err != nil {
						b.Fatal(err)
					}
					defer s.Close()

					go func() {
						for e, err := range s.All(context.Background()) {
							if err != nil {
								return
							}
							if e.seq == 0 { // the last of its window
								read.Done()
							}
						}
					}()
				}

				event := note{kind: "k", path: "p/q/r"}
				left := b.N
				b.ReportAllocs()
				b.ResetTimer()

				for left > 0 {
					k := min(left, window)
					read.Add(n)

					for i := k - 1; i >= 0; i-- {
						event.seq = i
						if err := bus.Publish(event); err != nil {
							b.Fatal(err)
						}
					}

					read.Wait()
					left -= k
				}

				b.StopTimer()
				b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "deliveries/s")
			})
		}
	}
}
