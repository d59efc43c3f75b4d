package pubsub

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// An event allocates nothing, however many filters of one attribute there are.
func TestAllocationsOfAnEvent(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		for i := range 100 {
			s := w.subscribe(Chain[note]{kind.Is(fmt.Sprint(i))}, DropOldest{4})
			defer s.Close()
		}
		s := w.subscribe(Chain[note]{kind.Is("k")}, Disconnect{4})

		got := testing.AllocsPerRun(500, func() {
			if err := w.bus.Publish(note{kind: "k", path: "p"}); err != nil {
				t.Error(err)
			}
			if _, err := s.Next(context.Background()); err != nil {
				t.Error(err)
			}
		})
		require.LessOrEqual(t, got, 0.0)
	})
}

// A delivery allocates nothing, however many subscribers there are.
func TestAllocationsOfADelivery(t *testing.T) {
	inBubble(t, Options{}, func(w world) {
		for range 99 {
			s := w.subscribe(nil, DropOldest{4})
			defer s.Close()
		}
		s := w.subscribe(nil, Disconnect{4})

		got := testing.AllocsPerRun(500, func() {
			if err := w.bus.Publish(note{kind: "k", path: "p"}); err != nil {
				t.Error(err)
			}
			if _, err := s.Next(context.Background()); err != nil {
				t.Error(err)
			}
		})
		require.LessOrEqual(t, got, 0.0)
	})
}
