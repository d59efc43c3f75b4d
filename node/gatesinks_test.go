package node

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/home"
)

// shelf is a sink in memory, which outlives the node.
type shelf struct {
	mu     sync.Mutex
	down   bool
	cursor streams.Cursor
	seen   []streams.Position
}

func (s *shelf) factory() streams.Factory {
	return streams.Factory{Kind: "shelf", Version: "1", Ack: streams.Durable,
		New: func(streams.Definition, streams.Secrets) (streams.Sink, error) { return &onShelf{shelf: s}, nil }}
}

func (s *shelf) fails(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *shelf) positions() []streams.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]streams.Position(nil), s.seen...)
}

// onShelf is one use of a shelf.
type onShelf struct {
	*shelf
	opening streams.Opening
}

var errShelf = streams.Fail(streams.Unreachable, errors.New("the shelf is down"))

func (s *onShelf) Open(_ context.Context, o streams.Opening) (streams.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return streams.Cursor{}, errShelf
	}
	s.opening, s.cursor.Epoch = o, o.Epoch
	return s.cursor, nil
}

func (s *onShelf) Observe(context.Context) (streams.Cursor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return streams.Cursor{}, errShelf
	}
	return s.cursor, nil
}

func (s *onShelf) Write(ctx context.Context, d streams.Delivery) error {
	for {
		e, err := d.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		d.Credit(e.Size())

		if _, ends := e.Body.(*streams.End); !ends {
			continue
		}
		s.mu.Lock()
		down := s.down
		if !down {
			s.cursor = s.opening.Cursor(e)
			s.seen = append(s.seen, e.Position)
		}
		s.mu.Unlock()
		if down {
			return errShelf
		}
	}
}

func (*onShelf) Read(context.Context, streams.Position, streams.Position, func(streams.Event) error) error {
	return streams.ErrNoRead
}

func (*onShelf) Close(context.Context) error { return nil }

// Items 4, 41 and 73 with the real slots: blocks pass in step with a sink. When the sink is down,
// the node is held; when it answers, at the exact next block, the node goes on. Left out, it is not
// waited for.
func TestBlocksPassInStepWithASink(t *testing.T) {
	t.Parallel()
	s := &shelf{}
	dir := gatedHome(t, `on_exceed = "pause"`)
	require.NoError(t, os.WriteFile(filepath.Join(home.StreamsDir(dir), "ledger.toml"), []byte("kind = \"shelf\"\n"),
		0o600))
	g := runGated(t, dir, WithSink(s.factory()))
	for range 5 {
		_, err := g.submit("k", true)
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, len(s.positions()), 5, "the start, and four blocks before the fifth")

	s.fails(true)
	g.submit("k6", true) // passes: the sink may still have taken the block before
	_, err := g.submit("k7", false)
	require.NoError(t, err)
	g.becomes(consensus.Held)
	require.Equal(t, "ledger", g.gates.Held()[0].Sinks[0].Name)
	s.fails(false)
	g.becomes(consensus.Ready)
	_, err = g.submit("k8", true)
	require.NoError(t, err)
	g.stop()
	require.NoError(t, <-g.ended)

	for i, at := range s.positions() {
		require.EqualValues(t, i, at.Height, "in order, each block once")
	}

	s.fails(true)
	g = runGated(t, dir, WithSink(s.factory()), WithoutSink("ledger"))
	_, err = g.submit("k9", true)
	require.NoError(t, err)
	g.stop()
	require.NoError(t, <-g.ended)
}
