package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/supervisor"
	"github.com/coppice-go/coppice/supervisor/process"
)

// DefaultGrace is how long CometBFT may take to end before it gets SIGKILL. With what follows, it
// has ended after at most 5 s.
const DefaultGrace = 4 * time.Second

// killTime is how long the kernel may take to end a process after SIGKILL.
const killTime = 2 * time.Second

// triggers are the texts by which CometBFT's log shows that it has lost its application, or that
// its RPC has stopped.
var triggers = []string{"RPC HTTP server stopped", "Stopping abci.socketClient for error: read message: "}

// ShowsDrop reports whether a line of CometBFT's log shows that it has lost its application, or
// that its RPC has stopped. If nobody has told the process to end, a connection was dropped.
func ShowsDrop(line string) bool {
	return slices.ContainsFunc(triggers, func(t string) bool { return strings.Contains(line, t) })
}

// SayDropped is the published line that precedes the line which has shown a dropped connection.
const SayDropped = "Restarted the HTTP RPC server, as a connection was dropped with message:"

// sayFailure is the text with which CometBFT's consensus ends while its process lives on.
const sayFailure = "CONSENSUS FAILURE!!!"

// comet is one process of CometBFT.
type comet struct {
	ref supervisor.Ref

	up    chan struct{} // closed when CometBFT is up
	lost  chan struct{} // closed when a trigger was seen
	ended chan struct{} // closed when the process has ended
	err   error         // of the end; to be read after ended

	began time.Time

	mu      sync.Mutex
	planned bool   // it was told to end: what it says from here on shows no fault
	line    string // of the trigger
	failure string // the line of a consensus failure
}

func newComet(now time.Time) *comet {
	return &comet{up: make(chan struct{}), lost: make(chan struct{}), ended: make(chan struct{}), began: now}
}

// plan notes that the process will be told to end.
func (c *comet) plan() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.planned = true
}

// dropped returns the line of the trigger, or "".
func (c *comet) dropped() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.line
}

// drop notes that the process has lost a connection, as its log would show.
func (c *comet) drop(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.planned && c.line == "" {
		c.line = line
		close(c.lost)
	}
}

// pid returns the number of the process.
func (c *comet) pid() int {
	info, _ := c.ref.Info().(process.Info)
	return info.PID
}

// isUp reports whether CometBFT is up, or was.
func (c *comet) isUp() bool {
	select {
	case <-c.up:
		return true
	default:
		return false
	}
}

// why returns why the process has ended. It must have ended.
func (c *comet) why() string {
	end := new(process.ExitError)
	if !errors.As(c.err, &end) {
		if c.err == nil {
			return "it ended"
		}
		return c.err.Error()
	}

	how := fmt.Sprintf("exit status %d", end.Status)
	if end.Signal != 0 {
		how = fmt.Sprintf("signal %v", end.Signal)
	}
	for i := len(end.LastLines) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(end.LastLines[i]); line != "" {
			return how + ": " + strings.TrimPrefix(line, "coppice: ")
		}
	}

	return how
}

// said judges a line of the process's log. It returns the line of a consensus failure the first
// time there is one.
func (c *comet) said(line string) (failure string) {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.planned {
		return ""
	}
	if strings.Contains(line, sayFailure) && c.failure == "" {
		c.failure = line
		return line
	}
	if c.line != "" {
		return ""
	}

	for _, t := range triggers {
		if strings.Contains(line, t) {
			c.line = line
			close(c.lost)
			break
		}
	}

	return ""
}

// launcher starts processes of CometBFT, each as an instance of a dynamic supervisor.
type launcher struct {
	command []string
	argv0   string
	options child.Options
	grace   time.Duration
	journal *Journal
	failed  func(c *comet, line string) // the consensus of a living process has ended

	sup *supervisor.Dynamic[*comet]
}

func newLauncher(l launcher) (*launcher, error) {
	var err error
	l.sup, err = supervisor.NewDynamic(supervisor.DynamicSpec[*comet]{
		Name: "processes", Start: l.spawn, Restart: supervisor.Temporary,
		Shutdown: l.grace + process.DrainTime + killTime, StartTimeout: supervisor.Infinity, Verbose: true,
		Intensity: supervisor.Intensity{Max: 1, Period: time.Minute},
	})
	return &l, err
}

// start starts a process. It returns when the program has been executed.
func (l *launcher) start(ctx context.Context, now time.Time) (*comet, error) {
	c := newComet(now)
	ref, err := l.sup.StartChild(ctx, "", c)
	if err != nil {
		return nil, err
	}
	c.ref = ref
	return c, nil
}

// stop ends a process and returns when it has ended.
func (l *launcher) stop(ctx context.Context, c *comet) error {
	c.plan()
	err := l.sup.TerminateRef(ctx, c.ref)

	select {
	case <-c.ended:
		return nil
	default:
	}

	if err == nil {
		err = errors.New("its end was not seen")
	}
	return fmt.Errorf("CometBFT's process did not end, not even by SIGKILL: %w", err)
}

func (l *launcher) spawn(ctx context.Context, c *comet) (supervisor.Service, error) {
	up := sync.OnceFunc(func() { close(c.up) })

	stdout := func(line []byte) {
		text := string(line)
		if text == child.UpLine {
			up()
			return
		}
		if _, ok := child.ParseReport(text); ok {
			return
		}
		if n, ok := child.ParseNotice(line); ok {
			text = n.Text
		}
		l.line(c, text)
	}

	p, err := process.Start(process.Spec{
		Name: "cometbft", Path: l.command[0], Argv0: l.argv0, Args: append(l.command[1:], l.options.Args()...),
		Dir: l.options.Home,
		Env: process.Inherit("PATH", "TMPDIR", "GORACE", "GOCOVERDIR", "GOGC", "GOTRACEBACK", "GODEBUG",
			"GOMEMLIMIT"),
		Stdout: stdout, Stderr: func(line []byte) { l.line(c, string(line)) },
		Grace: l.grace, ExitZero: process.ExitZeroAbnormal,
	})(ctx)
	if err != nil {
		return nil, err
	}

	return incarnation{p, c}, nil
}

func (l *launcher) line(c *comet, text string) {
	l.journal.Line(text)
	if failure := c.said(text); failure != "" {
		l.failed(c, failure)
	}
}

// incarnation is the service of a process. Its end is the machine's business, so it is quiet.
type incarnation struct {
	supervisor.Service
	comet *comet
}

// Serve waits for the end of the process.
func (i incarnation) Serve(ctx context.Context) error {
	defer close(i.comet.ended)
	i.comet.err = i.Service.Serve(ctx)
	return nil
}
