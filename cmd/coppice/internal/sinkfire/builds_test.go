package sinkfire

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/testnet"
	"github.com/coppice-go/coppice/engines/backend/governance"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/file"
	"github.com/coppice-go/coppice/engines/streams/kafka"
	"github.com/coppice-go/coppice/engines/streams/nats"
	"github.com/coppice-go/coppice/engines/streams/postgres"
	"github.com/coppice-go/coppice/node/home"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Items 4, 35 and 52: four validators, each of another build and with another sink. One is halted
// by its sink and rejoins; the chain is reset under way. What the sinks hold is equal byte for
// byte.
func TestFourBuildsWithFourSinks(t *testing.T) {
	campaign(t)
	public, key, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	nodes := network(t, 4, testnet.InitOptions{GovernanceKey: public, ResetOffset: 20})
	kinds := []string{"postgres", "kafka", "nats", "file"}
	flags := [][]string{nil, {"-race"}, {"-gcflags=github.com/coppice-go/coppice/...=-N -l"}, {"-ldflags=-s -w"}}
	outs := make([]*target, len(nodes))
	for i, m := range nodes {
		m.bin = build(t, "cmd/coppice", flags[i]...)
		outs[i] = targets[kinds[i]](t, m)
	}
	halting := nodes[1]
	halting.write("gates.toml", gateText("halt"))
	for _, m := range nodes {
		m.begin()
	}
	for _, m := range nodes {
		m.ready()
	}
	load := startLoad(t, 40, nodes...)
	load.grow(100)

	outs[1].server.Kill()
	require.Equal(t, "exit status 7", halting.halts(t))
	load.grow(50) // the others go on
	outs[1].server.Start()
	halting.start()
	halting.level("ledger")

	// A node that is behind at a reset takes the state of a peer, and its sink would lack blocks.
	there := nodes[0].height()
	halting.until("it is as far as the others", func() bool { return halting.height() >= there },
		func() any { return halting.height() })

	reset(t, nodes[0], key)
	for _, m := range nodes {
		m.until("the next epoch has a block", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			s, err := m.cl.Status(ctx)
			return err == nil && s.Period == 1 && s.Height > 0
		}, func() any { return m.stream("ledger") })
	}
	load.grow(50)
	load.end()

	// The place up to which all four are read.
	ctx, cancel := nodes[0].ask()
	defer cancel()
	s, err := nodes[0].cl.Status(ctx)
	require.NoError(t, err)
	to := streams.Position{Period: s.Period, Height: s.Height}
	for _, m := range nodes {
		m.until("every node is there", func() bool { return m.height() >= to.Height }, func() any { return to })
		m.level("ledger")
		r := m.verify("ledger", 0)
		t.Logf("%d blocks, %d events, no fault", r.Units, r.Events)
	}
	for _, m := range nodes {
		m.kill()
	}

	first := dump(t, nodes[0], to)
	require.NotEmpty(t, first)
	for i, m := range nodes[1:] {
		other := dump(t, m, to)
		require.True(t, bytes.Equal(first, other), "the dumps of %s (%d bytes) and %s (%d bytes)", kinds[0], len(first),
			kinds[i+1], len(other))
	}
	t.Logf("four builds, four sinks: equal dumps to %s, %d bytes, sum %x", to, len(first), sha256.Sum256(first))
}

// reset has the chain decide on a reset.
func reset(t *testing.T, m *machine, key ed25519.PrivateKey) {
	t.Helper()
	body, err := governance.SignReset(key, governance.ResetChange{ChainID: "sinks", Sequence: 1})
	require.NoError(t, err)
	ctx, cancel := m.ask()
	defer cancel()
	r, err := m.cl.SubmitWait(ctx, m.cl.NewTx(governance.Name, body, time.Minute))
	require.NoError(t, err)
	require.Equal(t, logv1.Code_CODE_OK, r.Code, r.Log)
}

// dump reads what the sink of a stopped node holds, in the envelope's protobuf form, each event
// after its length.
func dump(t *testing.T, m *machine, to streams.Position) (all []byte) {
	t.Helper()
	path := filepath.Join(home.StreamsDir(m.home), "ledger.toml")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	d, err := streams.ParseDefinition(path, text)
	require.NoError(t, err)
	factory := map[string]func() streams.Factory{"postgres": postgres.Factory, "kafka": kafka.Factory,
		"nats": nats.Factory, "file": file.Factory}[d.Kind]()
	sink, err := factory.New(d, streams.NewSecrets(filepath.Dir(path)))
	require.NoError(t, err)
	defer sink.Close(context.Background()) //nolint:errcheck // it was only read

	ctx, cancel := m.ask()
	defer cancel()
	require.NoError(t, sink.Read(ctx, streams.Position{}, to, func(e streams.Event) error {
		b, err := streams.AppendProto(nil, e)
		all = append(fmt.Appendf(all, "%d\n", len(b)), b...)
		return err
	}))

	return all
}
