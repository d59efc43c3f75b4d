package sinktest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/coppice-go/coppice/engines/streams"
)

// State returns the unit of a state of n keys after some units, and its chunks of so many events.
// The second value has one delivery's worth of events for each chunk.
func State(after Unit, n, size int) (whole Unit, chunks []Unit) {
	b := builder{at: streams.Place{ChainID: ChainID, Position: after.Position()}}
	b.at.Height += 2
	b.add(&streams.Gap{Reason: "a state"})
	for i := range n {
		b.add(&streams.Key{Key: fmt.Appendf(nil, "key/\x00%03d", i), Value: fmt.Appendf(nil, "value \xff%d", i)})
	}
	whole = b.end(hash("state block"), hash("state"))
	for part := range slices.Chunk(whole[:len(whole)-1], size) {
		chunks = append(chunks, part)
	}

	return whole, chunks
}

// bootstrapping is one generation that a check makes.
type bootstrapping struct {
	k      *kit
	whole  Unit
	chunks []Unit
}

// chunk returns what the sink is told of a chunk. That of the End follows the last one.
func (b bootstrapping) chunk(n int) streams.Chunk {
	c := streams.Chunk{Number: n, Of: len(b.chunks)}
	for _, u := range b.chunks[:n] {
		c.Before += uint64(len(u))
	}
	return c
}

// write writes a chunk; a cut of -1 means all of it.
func (b bootstrapping) write(s streams.Sink, n, cut int) error {
	ctx, cancel := b.k.ctx()
	defer cancel()
	d := deliver(b.k.limit(), b.chunks[n])
	d.cut = cut
	return s.(streams.Bootstrapper).Chunk(ctx, b.chunk(n), d)
}

// writeAll writes chunks at once.
func (b bootstrapping) writeAll(s streams.Sink, numbers ...int) error {
	errs := make([]error, len(numbers))
	var all sync.WaitGroup
	for i, n := range numbers {
		all.Go(func() { errs[i] = b.write(s, n, -1) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// begin begins a generation, and returns an error unless the sink has exactly some chunks of it.
func (b bootstrapping) begin(s streams.Sink, id string, swapped bool, has ...int) error {
	ctx, cancel := b.k.ctx()
	defer cancel()
	done, already, err := s.(streams.Bootstrapper).Bootstrap(ctx, id)
	if err != nil {
		return fmt.Errorf("Bootstrap: %w", err)
	}
	if already != swapped {
		return fmt.Errorf("Bootstrap says swapped is %v, want %v", already, swapped)
	}
	if got := slices.Sorted(maps.Keys(done)); !swapped && !slices.Equal(got, has) {
		return fmt.Errorf("Bootstrap says that chunks %v are there, want %v", got, has)
	}
	return nil
}

func (b bootstrapping) swap(s streams.Sink) error {
	ctx, cancel := b.k.ctx()
	defer cancel()
	c, err := s.(streams.Bootstrapper).Swap(ctx, b.chunk(len(b.chunks)), b.whole.End())
	if err != nil {
		return fmt.Errorf("Swap: %w", err)
	}
	return stands(c, b.whole)
}

// checkBootstrap makes a generation beside the data of a sink, over an end of its writer (and of
// its server), and puts it in their place. R40, item 46.
func checkBootstrap(k *kit) error {
	units := Units(11, 4)
	s, _, err := k.open()
	if err != nil {
		return err
	}
	if _, ok := s.(streams.Bootstrapper); !ok {
		return k.close(s)
	}
	if err := k.write(s, units...); err != nil {
		return err
	}

	b := bootstrapping{k: k}
	b.whole, b.chunks = State(units[len(units)-1], 35, 9)
	if err := b.begin(s, "0001", false); err != nil {
		return err
	}
	if err := b.writeAll(s, 0, 2); err != nil {
		return fmt.Errorf("Chunk: %w", err)
	}
	if err := b.write(s, 1, 4); !errors.Is(err, errCut) {
		return fmt.Errorf("Chunk of a delivery that breaks off: %w, want its error", err)
	}
	if err := k.holds(units...); err != nil {
		return fmt.Errorf("while a generation is made: %w", err)
	}
	if k.target.Kill != nil {
		if err := k.target.Kill(); err != nil {
			return err
		}
	}

	again, c, err := k.open()
	if err != nil {
		return err
	}
	if err := stands(c, units[len(units)-1]); err != nil {
		return fmt.Errorf("amid a bootstrap: %w", err)
	}
	if err := b.begin(again, "0001", false, 0, 2); err != nil {
		return fmt.Errorf("after a kill: %w", err)
	}
	if err := b.write(s, 1, -1); err == nil {
		return errors.New("a writer of an older epoch wrote a chunk")
	}
	if err := b.swap(s); err == nil {
		return errors.New("a writer of an older epoch swapped")
	}
	if err := b.writeAll(again, 1, 3); err != nil {
		return fmt.Errorf("Chunk after a kill: %w", err)
	}
	if err := b.swap(again); err != nil {
		return err
	}
	if err := k.holds(b.whole); err != nil {
		return fmt.Errorf("after Swap: %w", err)
	}

	return b.after(again)
}

// after goes on with a sink that has swapped: its next unit, and another generation.
func (b bootstrapping) after(s streams.Sink) error {
	at := b.whole.Position()
	next := NewUnit(&at, &streams.Change{Key: []byte("k"), Value: []byte("v")})
	if err := b.k.write(s, next); err != nil {
		return fmt.Errorf("after Swap: %w", err)
	}
	if err := b.k.close(s); err != nil {
		return err
	}

	s, c, err := b.k.open()
	if err != nil {
		return err
	}
	if err := stands(c, next); err != nil {
		return err
	}
	if err := b.begin(s, "0001", true); err != nil {
		return fmt.Errorf("after Swap: %w", err)
	}
	if err := b.k.holds(b.whole, next); err != nil {
		return err
	}

	if err := errors.Join(b.begin(s, "0002", false), b.write(s, 0, -1), b.begin(s, "0003", false)); err != nil {
		return fmt.Errorf("another generation: %w", err)
	}
	b.whole, b.chunks = State(next, 10, 20)
	if err := errors.Join(b.write(s, 0, -1), b.swap(s)); err != nil {
		return fmt.Errorf("another generation: %w", err)
	}

	return errors.Join(b.k.holds(b.whole), b.k.close(s))
}
