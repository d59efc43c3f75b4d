package sinktest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coppice-go/coppice/engines/streams"
)

var slots atomic.Int64

// Define writes a definition with the given lines into dir, under a name of its own, and returns
// it with the secrets whose files are in dir.
func Define(t testing.TB, dir string, lines ...string) (streams.Definition, streams.Secrets) {
	t.Helper()
	text := []byte(strings.Join(lines, "\n") + "\n")
	file := filepath.Join(dir, fmt.Sprintf("slot%d.toml", slots.Add(1)))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := streams.ParseDefinition(file, text)
	if err != nil {
		t.Fatal(err)
	}

	return d, streams.NewSecrets(dir)
}

// Opening returns how a test claims the slot of a definition.
func Opening(d streams.Definition, epoch uint64) streams.Opening {
	return streams.Opening{Slot: d.Name, ChainID: ChainID, Definition: "d1", Epoch: epoch, Holder: "test"}
}

// Open makes a sink and claims it. The sink is closed when the test ends.
func Open(t testing.TB, f streams.Factory, d streams.Definition, secrets streams.Secrets, o streams.Opening,
) (streams.Sink, streams.Cursor) {
	t.Helper()
	s, err := f.New(d, secrets)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	c, err := s.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}

	return s, c
}
