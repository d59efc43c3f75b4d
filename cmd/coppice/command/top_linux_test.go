package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/cmd/coppice/internal/tty"
)

// inTerminal runs a command in a terminal.
func (s shell) inTerminal(rows, cols int, args ...string) (*tty.Terminal, *exec.Cmd) {
	s.t.Helper()
	c := s.command(args...)
	c.Env = append(c.Env, "TERM=xterm-256color", "CI=")
	return tty.Start(s.t, c, rows, cols), c
}

func has(parts ...string) func(string) bool {
	return func(screen string) bool {
		for _, p := range parts {
			if !strings.Contains(screen, p) {
				return false
			}
		}
		return true
	}
}

// topScreen is the terminal of a "coppice top" that runs from the first look at it on.
type topScreen struct{ term *tty.Terminal }

// shows returns an error unless the screen has the texts.
func (s *topScreen) shows(t *testing.T, home string, want ...string) error {
	t.Helper()
	if s.term == nil {
		c := exec.Command("coppice", "top", "--home", home, "--read-only")
		c.Env = append(os.Environ(), "TERM=xterm-256color", "CI=", "GORACE=atexit_sleep_ms=10")
		s.term = tty.Start(t, c, 60, 200)
	}
	if screen := s.term.Text(); !has(want...)(screen) {
		return fmt.Errorf("coppice top does not show %q:\n%s", want, strings.TrimRight(screen, "\n"))
	}
	return nil
}

// TestTopInATerminal drives "coppice top" as a person does, with a real node: row 14 of the
// operator's eyes. The node is killed under it, too.
func TestTopInATerminal(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("two minutes have passed"))
	defer cancel()

	s := shell{t, t.TempDir()}
	s.run("init", "--listen", "127.0.0.1:0")
	begin := func() *exec.Cmd {
		c := s.command("start", "--log-level", "error")
		require.NoError(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() }) // it may have ended
		s.run("status", "--wait", "60s")
		return c
	}
	node := begin()
	s.run("tx", "put", "greeting", "hello")

	term, top := s.inTerminal(24, 80, "top")
	term.Wait(ctx, "overview", has("ready since", "[1 overview]", "Tree: ", "transactions of blocks"))

	term.Type("2")
	term.Wait(ctx, "tree", has("[2 tree]", "├ router", "0 of 5 in 1m", "k kill"))
	term.Type("/router\r")
	term.Wait(ctx, "search", has(`showing what matches "router"`))
	term.Type("\x1b[F") // end: the router is the last row
	term.Wait(ctx, "selection", has(">     └ router"))

	// A kill shows what follows, and wants the name.
	before := regexp.MustCompile(`router .*#(\d+)`).FindStringSubmatch(term.Text())
	require.NotNil(t, before, term.Text())
	term.Type("k")
	term.Wait(ctx, "consequences", has("Kill coppice/node/router", "Its end also restarts", "logger", "transactions"))
	term.Type("logger\r")
	term.Wait(ctx, "refusal", has("not killed: logger is not router"))
	term.Type("k")
	term.Wait(ctx, "question", has("type router to kill"))
	asked := time.Now()
	term.Type("router\r")
	term.Wait(ctx, "new router", func(screen string) bool {
		now := regexp.MustCompile(`router .*running .*#(\d+)`).FindStringSubmatch(screen)
		return now != nil && now[1] != before[1]
	})
	t.Logf("a new incarnation was on the screen %v after enter", time.Since(asked).Round(time.Millisecond))
	term.Wait(ctx, "what was done", has("killed coppice/node/router"))

	// Its place, with why it ended.
	term.Type("\x1b")
	term.Wait(ctx, "no search", has("├ router", "├ transactions"))
	term.Type("3")
	term.Wait(ctx, "place", has("coppice/node/router", "Its end also restarts", "is one_for_all and gives up",
		"Last exit"))

	term.Type("4")
	term.Wait(ctx, "engines", has("MAILBOX", "BUSY↓", "logger", "storage"))

	// Another size, while it runs.
	term.Resize(60, 200)
	term.Wait(ctx, "large screen", func(screen string) bool {
		rows := strings.Split(screen, "\n")
		return has("1 crash in the last hour", "BUSY↓")(screen) && strings.HasPrefix(rows[59], "1-7 view")
	})
	term.Type("2")
	term.Wait(ctx, "large tree", has("LAST EXIT", "├ router"))

	term.Type("5")
	term.Wait(ctx, "events of the past", has("ChildStarted"))
	term.Type("/kind=BlockCommitted\r")
	term.Wait(ctx, "filter", has("filter: kind=BlockCommitted", "none yet"))
	blocks := regexp.MustCompile(`BlockCommitted +height (\d+) of`)
	for len(blocks.FindAllString(term.Text(), -1)) < 2 { // the stream may begin after a block
		s.run("tx", "put", "greeting", "again")
		require.NoError(t, ctx.Err())
	}
	term.Type("/\x15kind=Nonsense\r")
	term.Wait(ctx, "why the filter is refused", has("Nonsense"))
	term.Type("/\x15type=record\r")
	term.Wait(ctx, "another filter", has("filter: type=record", "none yet"))

	term.Type("6")
	term.Wait(ctx, "chain", has("Last blocks", "HEIGHT", "Pool"))
	term.Type("7")
	term.Wait(ctx, "disk", has("Event log", "half within", "Snapshots"))

	// The process dies, and comes back.
	require.NoError(t, node.Process.Signal(syscall.SIGKILL))
	_ = node.Wait()
	term.Wait(ctx, "death", has("NO ANSWER"))
	begin()
	back := time.Now()
	term.Wait(ctx, "return", func(screen string) bool { return strings.HasPrefix(screen, "ready since") })
	t.Logf("ready was on the screen %v after 'status --wait' said so", time.Since(back).Round(time.Millisecond))
	s.run("tx", "put", "greeting", "third")
	term.Type("5")
	last := func(screen string) string {
		all := blocks.FindAllStringSubmatch(screen, -1)
		return all[len(all)-1][1]
	}
	old := last(term.Wait(ctx, "blocks", blocks.MatchString))
	s.run("tx", "put", "greeting", "fourth")
	screen := term.Wait(ctx, "another block", func(screen string) bool {
		return blocks.MatchString(screen) && last(screen) != old
	})
	seen := map[string]bool{}
	for _, b := range blocks.FindAllStringSubmatch(screen, -1) {
		require.False(t, seen[b[1]], "block %s is there twice:\n%s", b[1], screen)
		seen[b[1]] = true
	}

	idle(t, top.Process.Pid)

	term.Type("q")
	require.NoError(t, top.Wait())
	require.Empty(t, term.Queries())
	require.True(t, term.Coloured())
}

// idle logs the processor time of a process that nobody uses. The time is measured by the system,
// and says nothing of how busy the machine is.
func idle(t *testing.T, pid int) {
	if os.Getenv("COPPICE_SOAK") == "" {
		return
	}

	const span = time.Minute
	before := cpuTime(t, pid)
	<-time.After(span)
	used := cpuTime(t, pid) - before
	t.Logf("top used %v in %v: %.2f %% of a core", used, span, 100*used.Seconds()/span.Seconds())
	require.Less(t, used, span/50, "2 %% of a core")
}

// Without the admin token, and with --read-only, there is no action. With NO_COLOR, there is no
// colour.
func TestTopReadOnly(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("two minutes have passed"))
	defer cancel()

	s := shell{t, t.TempDir()}
	s.run("init", "--listen", "127.0.0.1:0")
	node := s.command("start", "--log-level", "error")
	require.NoError(t, node.Start())
	t.Cleanup(func() { _ = node.Process.Kill(); _ = node.Wait() }) // it may have ended
	s.run("status", "--wait", "60s")
	token, err := os.ReadFile(filepath.Join(s.dir, "home", "read.token"))
	require.NoError(t, err)

	t.Setenv("NO_COLOR", "1")

	for name, args := range map[string][]string{
		"--read-only": {"top", "--view", "tree", "--read-only"},
		"not take":    {"top", "--view", "tree", "--token", strings.TrimSpace(string(token))},
	} {
		term, top := s.inTerminal(24, 80, args...)
		term.Wait(ctx, "tree", has("├ router"))
		require.NotContains(t, term.Text(), "k kill")
		term.Type("k")
		term.Wait(ctx, "refusal", has("no actions", name))
		term.Type("\x03")
		require.NoError(t, top.Wait())
		require.False(t, term.Coloured(), "NO_COLOR is set")
	}
}

// Bubble Tea asks the terminal for its colours when the program starts; package early prevents it.
func TestNoCommandAsksTheTerminal(t *testing.T) {
	s := shell{t, t.TempDir()}
	term, c := s.inTerminal(24, 80, "version")
	require.NoError(t, c.Wait())
	term.Wait(t.Context(), "version", has("coppice"))
	require.Empty(t, term.Queries())
}

// cpuTime returns the processor time that a process has used: fields 14 and 15 of its stat, in
// hundredths of a second.
func cpuTime(t *testing.T, pid int) (d time.Duration) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(t, err)
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		require.NoError(t, err)
		d += time.Duration(n) * 10 * time.Millisecond
	}
	return d
}
