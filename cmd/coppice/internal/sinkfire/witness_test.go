package sinkfire

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/internal/servers"
)

// sequence checks the events of an unfiltered stream by their places alone, with no code of ours:
// the blocks come one after the other from height 0, and in each the events from index 0 to the
// end.
type sequence struct {
	t              testing.TB
	height, index  uint64 // of the next event
	blocks, events int
}

// line takes an event in JSON.
func (s *sequence) line(text []byte) {
	s.t.Helper()
	var e struct {
		Kind          string
		Height, Index uint64
	}
	require.NoError(s.t, json.Unmarshal(text, &e), "%s", text)
	require.Equal(s.t, [2]uint64{s.height, s.index}, [2]uint64{e.Height, e.Index}, "height and index of %s", text)
	s.events++
	s.index++
	if e.Kind == "end" {
		s.height, s.index, s.blocks = s.height+1, 0, s.blocks+1
	}
}

// byKcat reads a topic by kcat, which has another client library.
func byKcat(t testing.TB, server *servers.Server, topic string) *sequence {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), servers.Require(t, "kcat"), "-b", server.Addr, "-t", topic, "-p", "0",
		"-C", "-o", "beginning", "-e", "-q", "-X", "isolation.level=read_committed", "-f", "%h\t%s\n").Output()
	require.NoError(t, err)
	s := &sequence{t: t}
	for line := range bytes.Lines(out) {
		headers, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte("\t"))
		if !bytes.Contains(headers, []byte("coppice-control")) {
			s.line(value)
		}
	}
	return s
}

// byConsumer reads a stream by an ordered consumer.
func byConsumer(t testing.TB, server *servers.Server, name string) *sequence {
	t.Helper()
	nc, err := nats.Connect(server.Addr)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), name)
	require.NoError(t, err)
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	messages, err := consumer.Messages()
	require.NoError(t, err)
	defer messages.Stop()

	s := &sequence{t: t}
	for range info.NumPending {
		m, err := messages.Next(jetstream.NextContext(t.Context()))
		require.NoError(t, err)
		if !strings.HasSuffix(m.Subject(), ".control") {
			s.line(m.Data())
		}
	}
	return s
}

// byLines reads the JSON lines of files in the order of their names, but those of a sink itself.
func byLines(t testing.TB, pattern string) *sequence {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	slices.Sort(files)
	s := &sequence{t: t}
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for line := range bytes.Lines(text) {
			if bytes.Contains(line, []byte(`"v":1`)) {
				s.line(line)
			}
		}
	}
	return s
}
