package manager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/manager/bare"
	"github.com/coppice-go/coppice/supervisor/process"
)

// fakeCommand makes the test binary play CometBFT. childMain is CometBFT itself.
const fakeCommand = "fake-comet"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case fakeCommand:
			os.Exit(fakeMain(os.Args[2:]))
		case child.Command:
			os.Exit(childMain(os.Args[2:]))
		}
	}
	if os.Getenv("GORACE") == "" { // the race detector sleeps for a second at each exit of a process
		os.Setenv("GORACE", "atexit_sleep_ms=10")
	}

	// CometBFT's server of an application leaves this goroutine of each connection behind.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(
		"github.com/cometbft/cometbft/abci/server.(*SocketServer).handleResponses"))
}

func childMain(args []string) int {
	process.WatchParent()
	var o child.Options
	f := flag.NewFlagSet(child.Command, flag.ExitOnError)
	o.Flags(f)
	_ = f.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	err := child.Run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}

	return child.Status(err)
}

// script is what a fake CometBFT does. It is read at each of its starts.
type script struct {
	Deaf   bool   // it ignores SIGTERM
	Exit   *int   // it ends at once, with this status
	Say    string // on stderr, before that
	NotUp  bool   // it waits for its application for ever
	Height int64  // of the last block

	Farewell string // what it says when it is told to end
}

// fakeMain plays CometBFT: it makes a block file and a signing state, answers RPC, and says and
// does what the test asks for.
func fakeMain(args []string) int {
	process.WatchParent()
	var o child.Options
	f := flag.NewFlagSet(fakeCommand, flag.ExitOnError)
	o.Flags(f)
	_ = f.Parse(args)

	var s script
	data, err := os.ReadFile(scriptPath(o.Home))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	starts, _ := os.OpenFile(filepath.Join(filepath.Dir(o.Home), "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	fmt.Fprintln(starts, strings.Join(args, " "))
	starts.Close()
	if s.Say != "" {
		fmt.Fprintln(os.Stderr, s.Say)
	}
	if s.Exit != nil {
		return *s.Exit
	}

	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	_ = os.WriteFile(filepath.Join(o.Home, "data", "block"), []byte("a block"), 0o600)
	os.Remove(o.RPC)
	l, err := net.Listen("unix", o.RPC)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	height, ended := s.Height, make(chan int, 1)
	var mu sync.Mutex
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch r.URL.Path {
		case "/status":
			fmt.Fprintf(w, `{"result":{"sync_info":{"latest_block_height":"%d"}}}`, height)
		case "/abci_info":
			fmt.Fprint(w, `{"result":{}}`)
		case "/num_unconfirmed_txs":
			fmt.Fprint(w, `{"result":{"n_txs":"0"}}`)
		case "/block":
			if h := r.URL.Query().Get("height"); h != "" && h != "7" {
				fmt.Fprint(w, `{"error":{"message":"Internal error","data":"height 9 must be less than 8"}}`)
				return
			}
			fmt.Fprint(w, `{"result":{"block":{"header":{"app_hash":"C0FFEE"}}}}`)
		case "/fake":
			q := r.URL.Query()
			if line := q.Get("say"); line != "" {
				fmt.Fprintln(os.Stderr, line)
			}
			if q.Get("mute") != "" {
				l.Close()
			}
			if q.Get("exit") != "" {
				ended <- 0
			}
		}
	}))
	if !s.NotUp {
		fmt.Println(child.UpLine)
	}

	for {
		select {
		case status := <-ended:
			return status
		case <-term:
			if s.Farewell != "" {
				fmt.Fprintln(os.Stderr, s.Farewell)
			}
			if !s.Deaf {
				return 0
			}
		}
	}
}

func scriptPath(home string) string { return filepath.Join(filepath.Dir(home), "script.json") }

// lines is a console that a test reads.
type lines struct {
	mu      sync.Mutex
	all     []string
	changed chan struct{}
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, strings.Split(strings.TrimRight(string(b), "\n"), "\n")...)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return len(b), nil
}

func (l *lines) get() ([]string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return slices.Clone(l.all), l.changed
}

func (l *lines) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// await waits until the console has a line with this text n times.
func (l *lines) await(t *testing.T, text string, n int) []string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		all, changed := l.get()
		count := 0
		for _, line := range all {
			if strings.Contains(line, text) {
				count++
			}
		}
		if count >= n {
			return all
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("%q did not come %d times; the console has:\n%s", text, n, strings.Join(all, "\n"))
		}
	}
}

// published returns the published lines among those of a console.
func published(all []string) (out []string) {
	for _, line := range all {
		for _, p := range []string{"Monitoring thread", "Tendermint process", "Removed", "Reset private",
			"Kept private", "Restarted the HTTP"} {
			if strings.HasPrefix(line, p) {
				out = append(out, line)
			}
		}
	}
	return out
}

// rig is a manager under test.
type rig struct {
	t       *testing.T
	home    string
	console *lines
	m       *Manager
}

type rigOption func(*Settings, *Options)

// newRig starts a manager whose CometBFT is a fake.
func newRig(t *testing.T, s script, options ...rigOption) *rig {
	t.Helper()
	r := prepare(t)
	r.script(s)
	r.start(options...)
	return r
}

// prepare makes a home.
func prepare(t *testing.T) *rig {
	t.Helper()
	home := filepath.Join(t.TempDir(), "tm")
	_, err := bare.Open(home)
	require.NoError(t, err)
	return &rig{t: t, home: home, console: new(lines)}
}

func (r *rig) script(s script) {
	r.t.Helper()
	data, err := json.Marshal(s)
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(scriptPath(r.home), data, 0o600))
}

func (r *rig) start(options ...rigOption) {
	r.t.Helper()
	s, err := FromEnvironment(func(string) string { return "" })
	require.NoError(r.t, err)
	s.Home, s.ProxyApp = r.home, "tcp://127.0.0.1:1"
	o := Options{Access: Access{Listen: "127.0.0.1:0"}, Command: []string{os.Args[0], fakeCommand},
		Grace: 500 * time.Millisecond}
	for _, set := range options {
		set(&s, &o)
	}
	if o.Journal == nil {
		o.Journal, err = NewJournal(r.console, s.LogFile, s.LogBytes)
		require.NoError(r.t, err)
	}

	r.m, err = New(r.t.Context(), s, o)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.m.Serve(ctx) }()
	r.t.Cleanup(func() {
		cancel(errors.New("the test is over"))
		<-ended
		require.NoError(r.t, o.Journal.Close())
	})
}

// awaitState waits until the machine is in a state.
func (r *rig) awaitState(s State) Status {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	seq := uint64(0)
	for {
		now := r.m.Machine.Wait(ctx, seq)
		if now.State == s {
			return now
		}
		if ctx.Err() != nil {
			r.t.Fatalf("the machine did not become %s: %+v", s, r.m.Machine.Status(0))
		}
		seq = now.Events[len(now.Events)-1].Seq
	}
}

// awaitEvent waits for an event with a text.
func (r *rig) awaitEvent(text string) Event {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	seq := uint64(0)
	for {
		now := r.m.Machine.Wait(ctx, seq)
		for _, e := range now.Events {
			if seq = e.Seq; strings.Contains(e.Text, text) {
				return e
			}
		}
		if ctx.Err() != nil {
			r.t.Fatalf("no event has %q: %+v", text, r.m.Machine.Status(0))
		}
	}
}

// fake asks the fake CometBFT for something.
func (r *rig) fake(query string) {
	r.t.Helper()
	c := newRPC(rpcSocket(r.home))
	defer c.close()
	resp, err := c.client.Get("http://comet/fake?" + query)
	require.NoError(r.t, err)
	resp.Body.Close()
}

func say(line string) string { return "say=" + url.QueryEscape(line) }

// client speaks to the manager as the published one does. That one's code runs only within its
// framework, so this client was written from the specification: the same requests, and the same
// keys read from the answers.
type client struct {
	t     *testing.T
	url   string
	token string
}

func (r *rig) client() client { return client{r.t, "http://" + r.m.Addr(), ""} }

func (c client) call(method, path string, body any) (int, map[string]any, string) {
	c.t.Helper()
	var b io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		require.NoError(c.t, err)
		b = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, c.url+path, b)
	require.NoError(c.t, err)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := hc.Do(req)
	require.NoError(c.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, "application/json", resp.Header.Get("Content-Type"))

	var out map[string]any
	_ = json.Unmarshal(data, &out)
	return resp.StatusCode, out, string(data)
}

// reset calls /gentle_reset, or /hard_reset with its query.
func (c client) reset(path string) (status bool, message string) {
	c.t.Helper()
	code, out, text := c.call(http.MethodGet, path, nil)
	require.Equal(c.t, http.StatusOK, code, text)
	require.Len(c.t, out, 2, text)
	return out["status"].(bool), out["message"].(string)
}

// genesisDoc reads the genesis file.
func (r *rig) genesis() map[string]any {
	r.t.Helper()
	data, err := os.ReadFile(comethome.GenesisPath(r.home))
	require.NoError(r.t, err)
	var out map[string]any
	require.NoError(r.t, json.Unmarshal(data, &out))
	return out
}
