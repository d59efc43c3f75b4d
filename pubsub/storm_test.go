package pubsub

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/coppice-go/coppice/supervisor/suptest"
)

// Subscribers that come, read and leave meet publishers, kills of every child and a stop of the
// whole at any moment of one another. No Subscribe and no Next waits longer than the bus lives: in
// a bubble, a wait for ever is a failure at once. COPPICE_STORMS sets the number of seeds.
func TestNothingWaitsForEverInAStorm(t *testing.T) {
	suptest.EachSeed(t, "COPPICE_STORMS", 100, storm)
}

func storm(t *testing.T, seed uint64) {
	inBubble(t, Options{Mailbox: 2 + int(seed%7)}, func(w world) {
		var others sync.WaitGroup
		over, end := context.WithCancel(context.Background()) // of the wait for a bus that does not come back
		for i := range uint64(3) {
			others.Go(func() { stormer{rand.New(rand.NewPCG(seed, i)), w}.subscribes(over) })
		}
		others.Go(func() { stormer{rand.New(rand.NewPCG(seed, 3)), w}.publishes() })
		if seed%4 != 0 {
			others.Go(func() { stormer{rand.New(rand.NewPCG(seed, 4)), w}.kills() })
		}

		stormer{rand.New(rand.NewPCG(seed, 5)), w}.yields(400)
		_ = w.run.Stop(context.Background()) // the error of a run that gave up before
		end()
		others.Wait()
	})
}

// stormer does one thing after the other.
type stormer struct {
	*rand.Rand
	world
}

func (s stormer) yields(most int) {
	for range s.IntN(most) {
		runtime.Gosched()
	}
}

func (s stormer) subscribes(over context.Context) {
	filters := []Filter[note]{kind.Is("a"), kind.Is("b"), path.Is("x"), path.Is("x/y")}
	policies := []Policy{Disconnect{5}, Block{5, time.Second}, DropOldest{5}}

	for range 10 {
		var chain Chain[note]
		for range s.IntN(4) {
			chain = append(chain, filters[s.IntN(len(filters))])
		}

		subscribe, ctx := s.bus.Subscribe, context.Background()
		if s.IntN(2) == 0 {
			subscribe, ctx = s.bus.SubscribeWait, over
		}
		s.yields(20)
		sub, err := subscribe(ctx, chain, policies[s.IntN(len(policies))])
		if err != nil {
			continue
		}

		if s.IntN(4) > 0 {
			s.reads(sub)
		}
		sub.Close()
	}
}

// reads reads some events, at most to the end of the subscription.
func (s stormer) reads(sub *Subscription[note]) {
	for range s.IntN(12) {
		_, err := sub.Next(context.Background())
		gap := new(Gap)
		if err != nil && !errors.As(err, &gap) {
			return
		}
		s.yields(20)
	}
}

func (s stormer) publishes() {
	for i := range 100 {
		_ = s.bus.Publish(note{string(rune('a' + s.IntN(3))), []string{"x", "x/y", "z"}[s.IntN(3)], i})
		s.yields(10)
	}
}

func (s stormer) kills() {
	for range 1 + s.IntN(5) {
		s.yields(60)
		paths := []string{registryID, brokerID, filtersID}
		if filters, ok := s.run.Tree().Find(filtersID); ok {
			for _, c := range filters.Children {
				paths = append(paths, c.Path)
			}
		}
		_ = s.run.Kill(paths[s.IntN(len(paths))], errors.New("on a whim"))
	}
}
