package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/engines/rounds/replicated"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/home"
	"github.com/coppice-go/coppice/node/nodetest"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/plan"
)

// readReports returns the reports in a directory of Files, and requires that each number from 1 on
// is there.
func readReports(t testing.TB, dir string) (reports []Report) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)

	for i, path := range files {
		var r Report
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &r))
		require.EqualValues(t, i+1, r.Number, path)
		requireMedian(t, r)
		reports = append(reports, r)
	}

	return reports
}

// A node asks an HTTP source and publishes files, while its engines are killed. Each report is
// published, from prices that were asked for it, and the home verifies.
func TestANodePublishesThroughKills(t *testing.T) {
	var asked atomic.Int64
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"cents": %d}`, 100*asked.Add(1))
	}))
	defer source.Close()

	if _, ok := consensus.Lookup(solo.Name); !ok {
		consensus.Register(solo.Kind{})
	}

	dir := filepath.Join(t.TempDir(), "home")
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	_, err := home.Init(dir, home.InitOptions{ChainID: "oracle", Listen: "127.0.0.1:0", Profile: plan.Chaos,
		Agents: []chain.Agent{{Name: "one", Key: key.Public().(ed25519.PublicKey)}}})
	require.NoError(t, err)
	require.NoError(t, home.WriteAgentKey(dir, key))

	reports := filepath.Join(t.TempDir(), "reports")
	files, made := Files(reports), make(chan uint64, 1000)
	service := Service(Config{HTTP(source.URL), func(ctx context.Context, r Report) error {
		if err := files(ctx, r); err != nil {
			return err
		}
		made <- r.Number
		return nil
	}}, 10*time.Millisecond)
	n := nodetest.Start(t, nodetest.Home(dir), nodetest.With(node.WithRounds(service)))

	newest := uint64(0)
	more := func() {
		t.Helper()
		limit := time.After(nodetest.Timeout)
		for begun := newest; newest < begun+2; {
			select {
			case number := <-made:
				newest = max(newest, number)
			case <-limit:
				t.Fatalf("no report after %d", newest)
			}
		}
	}

	more()
	const engine = "coppice/node/engines/rounds"
	for _, path := range []string{engine, engine + "/behaviours", "coppice/node/transactions/storage"} {
		n.Cut(path)
		more()
	}
	n.Restart()
	more()
	n.Stop()

	all := readReports(t, reports)
	require.GreaterOrEqual(t, uint64(len(all)), newest)
	before := int64(0)
	for _, r := range all {
		require.Equal(t, r.Cents, r.Prices["one"])
		require.Greater(t, r.Cents, before, "report %d has a price of its own", r.Number)
		before = r.Cents
	}
	require.LessOrEqual(t, before, 100*asked.Load())
	n.Verify(offline.VerifyOptions{Backends: []chain.Backend{replicated.New(service)}})
}
