package dashboard_test

import (
	"context"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/rounds"
	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/dashboard"
	"github.com/coppice-go/coppice/node/gate"
)

// host is a node that is in a condition.
type host struct {
	api.Host
	is *consensus.Condition
}

func (h host) Health() consensus.Condition { return *h.is }

// read returns a page as one who sees its texts reads it: with its marks, without entities.
func read(t *testing.T, d *dashboard.Dashboard, page string, cookies ...*http.Cookie) string {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, dashboard.Path+page, nil)
	for _, c := range cookies {
		req.AddCookie(c)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, req)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	return html.UnescapeString(w.Body.String())
}

func has(t *testing.T, page string, want ...string) {
	t.Helper()
	for _, x := range want {
		require.Contains(t, page, x)
	}
}

// The page of the streams has the name, the kind, the state and the lag of each, and what the last
// error of a dead one was. Why it failed is for those who may submit. A gate names the sinks that
// it waits for.
func TestThePageOfStreams(t *testing.T) {
	var list []streams.Status
	var gates []gate.Status
	d := dashboard.New(dashboard.Options{Streams: func() []streams.Status { return list },
		Gates: func() []gate.Status { return gates },
		Tokens: api.Fixed(api.Token{Access: api.SubmitAccess, Secret: "submits"},
			api.Token{Access: api.ReadAccess, Secret: "reads"})})
	has(t, read(t, d, "streams"), "There are no streams.")

	at := func(height uint64) streams.Cursor {
		return streams.Cursor{Position: streams.Position{Period: 3, Height: height}}
	}
	list = []streams.Status{
		{Name: "ledger", Kind: "postgres", State: streams.Live, Stands: at(977)},
		{Name: "search", Kind: "kafka", State: streams.Failed, Stands: at(900), LagHeights: 77, LagEvents: -1,
			LagBytes: 4711, LagSeconds: 12.5, Parked: 5, HeldBytes: 3 << 20, Last: &streams.Cause{
				Class: streams.Misconfigured, Text: "the topic <txs> is gone", Time: time.Now()}},
	}
	gates = []gate.Status{{Gate: "durable", Phase: gate.Held, Height: 978, Exempt: []string{"ledger"},
		Sinks: []gate.Missing{{Name: "search", State: "failed"}}}}

	enter := func(token string) *http.Cookie {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, dashboard.Path+"session",
			strings.NewReader(url.Values{"token": {token}}.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		d.ServeHTTP(w, req)
		require.Len(t, w.Result().Cookies(), 1, w.Body)
		return w.Result().Cookies()[0]
	}
	page := read(t, d, "streams", enter("submits"))
	has(t, page, `ledger (postgres)</th><td><b class="running">live</b></td><td>3/977</td>`,
		`search (kafka)</th><td><b class="not-running">failed</b></td><td>3/900</td>`+
			`<td>77</td><td>?</td><td>4711</td><td>12.5</td><td>5</td><td>3.0 MiB</td><td>misconfigured, `,
		": the topic <txs> is gone</td>",
		`durable</th><td>held</td><td>978</td><td>search (failed) </td><td>ledger</td>`)

	for _, page := range []string{read(t, d, "streams"), read(t, d, "streams", enter("reads"))} {
		has(t, page, "<td>misconfigured, ")
		require.NotContains(t, page, "is gone")
	}
}

// The page of the rounds has the round, its count, its period, who has sent, and what interrupts
// it.
func TestThePageOfRounds(t *testing.T) {
	has(t, read(t, dashboard.New(dashboard.Options{}), "rounds"), "no service of rounds")

	var st rounds.State[struct{}]
	var failed error
	d := dashboard.New(dashboard.Options{Rounds: func(context.Context) (rounds.State[struct{}], uint64, error) {
		return st, 4711, failed
	}})
	has(t, read(t, d, "rounds"), "no block yet")

	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	st = rounds.State[struct{}]{Round: "collect", Count: 41, Period: 7, Participants: []rounds.Agent{"ann", "bob"},
		Ballot:      rounds.Ballots{Votes: []rounds.Vote{{Agent: "bob"}}, Broken: true},
		Deadlines:   []rounds.Deadline{{Event: "round_timeout", At: noon}},
		Interrupted: &rounds.Interrupted{Round: "select", Count: 40, Since: noon.Add(-time.Minute)},
		Sides:       []rounds.Side{{Count: 39, Ballot: rounds.Ballots{Votes: []rounds.Vote{{Agent: "ann"}}}}}}
	has(t, read(t, d, "rounds"), "Round <b>collect</b>, count 41, period 7, at height 4711.",
		"only a timeout ends the round", `ann</th><td>not yet</td>`, `bob</th><td>yes</td>`,
		"round_timeout at 2026-11-30 12:00:00 (block time)", "Interrupted: select, count 40, since 11:59:00.",
		"Background round 1, count 39: 1 have sent.")

	failed = errors.New("the storage is down")
	has(t, read(t, d, "rounds"), `role="alert">the storage is down`)
}

// The page of the resets has the period of the chain, the reset that a block has decided with its
// step, the process of the consensus, and the epochs that have ended.
func TestThePageOfResets(t *testing.T) {
	is := consensus.Condition{State: consensus.Ready}
	var epochs []string
	var failed error
	d := dashboard.New(dashboard.Options{Host: host{is: &is},
		Chain:  func() chain.State { return chain.State{ChainID: "wood-1", Period: 4, Height: 17} },
		Epochs: func(context.Context) ([]string, error) { return epochs, failed }})
	failed = api.ErrUnavailable
	page := read(t, d, "resets")
	has(t, page, "Chain wood-1, period 4, height 17.", "No reset is under way.")
	require.NotContains(t, page, `role="alert"`, "a kind without resets has no epochs")
	require.NotContains(t, page, "The process of the consensus")

	failed, epochs = nil, []string{"epoch 2 ended at height 90", "epoch 3 ended at height 120"}
	is.Hold = &consensus.ResetHold{Epoch: 4, Height: 17, Since: time.Now().Add(-90 * time.Second), Step: 5,
		Text: "the old chain has ended; the new one is written"}
	is.Process = &consensus.Process{State: "resetting", Text: "it was told to end", Since: time.Now(), Restarts: 2,
		Resets: 3}
	page = read(t, d, "resets")
	has(t, page, `<p class="restarting">Epoch 4 ends: the block at height 17 has decided a reset, `,
		" ago. Step 5 of 12: the old chain has ended; the new one is written.</p>",
		`<b class="not-running">resetting</b>`, "it was told to end. 2 restarts that nobody asked for, 3 resets",
		"<li>epoch 2 ended at height 90</li><li>epoch 3 ended at height 120</li>")
	require.NotContains(t, page, "No reset is under way")

	is.Hold.Long = true
	has(t, read(t, d, "resets"), `<p class="not-running">Epoch 4 ends`, "it takes longer than it should")
	failed = errors.New("the journal is damaged")
	has(t, read(t, d, "resets"), `role="alert">the journal is damaged`)
}
