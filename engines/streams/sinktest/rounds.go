package sinktest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coppice-go/coppice/engines/streams"
)

// writerEnv tells a test program that it is a writer: FILE,EPOCH of the definition and the claim.
const writerEnv = "COPPICE_SINKTEST_WRITER"

// seed is that of the units of Rounds.
const seed = 60

// Main runs the tests of a sink's package and returns the exit code. In a process that Rounds has
// started, it writes to the sink of f until it is killed. A package that calls Rounds calls it in
// TestMain.
func Main(m *testing.M, f streams.Factory) (code int) {
	file, epoch, isWriter := strings.Cut(os.Getenv(writerEnv), ",")
	if !isWriter {
		return m.Run()
	}

	n, err := strconv.ParseUint(epoch, 10, 64)
	if err == nil {
		err = writeOn(f, file, n)
	}
	fmt.Fprintln(os.Stderr, "writer:", err)

	return 1
}

// writeOn claims the sink of a definition and writes units, small and large deliveries in turn. It
// says each acknowledgment on standard output.
func writeOn(f streams.Factory, file string, epoch uint64) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	d, err := streams.ParseDefinition(file, text)
	if err != nil {
		return err
	}
	s, err := f.New(d, streams.NewSecrets(filepath.Dir(file)))
	if err != nil {
		return err
	}
	ctx := context.Background()
	c, err := s.Open(ctx, streams.Opening{Slot: d.Name, ChainID: ChainID, Definition: "d1", Epoch: epoch,
		Holder: "writer"})
	if err != nil {
		return err
	}

	limits := f.Limits
	if l, ok := s.(streams.Limiter); ok {
		if limits, err = l.Limits(ctx); err != nil {
			return err
		}
	}

	units, n := grown(c, nil)
	for n >= 0 {
		size := 1 + rand.IntN(12)
		for n+size > len(units) {
			units = Units(seed, 2*len(units))
		}
		if err := s.Write(ctx, deliver(limits.PayloadLimit(), units[n:n+size]...)); err != nil {
			return err
		}
		n += size
		fmt.Println("ack", n)
	}

	return fmt.Errorf("the cursor %s is none of the units", c)
}

// RoundsOf returns how many rounds a test of Rounds plays: few, or 100 with COPPICE_SOAK.
func RoundsOf(few int) int {
	if os.Getenv("COPPICE_SOAK") != "" {
		return 100
	}
	return few
}

// Rounds plays n rounds: a writer in a process of its own writes under load; the writer, the server
// or both are killed at a random moment; the next claim must stand at a whole unit, at or after the
// last acknowledged one, and Verify must find exactly the units up to there. It returns these
// units. Items 28 to 30 and 60.
//
// The target's Definition.File must exist. Its Kill kills the server and starts it again.
func Rounds(t *testing.T, f streams.Factory, target Target, n int) []Unit {
	t.Helper()
	k := &kit{t: t, factory: f, target: target, timeout: time.Minute}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))

	var units []Unit
	have := 0
	for round := range n {
		w, err := startWriter(target.Definition.File, k.opening().Epoch)
		if err != nil {
			t.Fatal(err)
		}

		server := target.Kill != nil && r.IntN(3) > 0
		after := time.Duration(r.IntN(60)) * time.Millisecond
		err = w.firstAck()
		time.Sleep(after) // the moment of the kill, not an expectation
		if server && r.IntN(2) == 0 {
			w.kill() // at the same moment
		}
		if server {
			if failed := target.Kill(); failed != nil {
				t.Fatal(failed)
			}
		}
		acked := max(w.kill(), have)
		if err != nil {
			t.Fatalf("round %d: the writer acknowledged nothing: %v", round, err)
		}

		units, have, err = k.roundEnd(units, acked)
		if err != nil {
			t.Fatalf("round %d (server killed: %v, after %v): %v", round, server, after, err)
		}
	}
	t.Logf("%d rounds, %d units, %d events", n, have, count(units[:have]))

	return units[:have]
}

// roundEnd claims the sink, and checks its cursor and its content. It returns enough units, and how
// many of them the sink has.
func (k *kit) roundEnd(units []Unit, acked int) ([]Unit, int, error) {
	s, c, err := k.open()
	if err != nil {
		return units, 0, err
	}
	defer k.close(s) //nolint:errcheck // the next round claims the sink anyway

	units, have := grown(c, units)
	if have < acked {
		return units, 0, fmt.Errorf("the cursor is %s: after %d units, and %d were acknowledged", c, have, acked)
	}

	return units, have, k.holds(units[:have]...)
}

// grown returns units, or more of them, and how many the cursor has behind it; below 0: none that
// there are.
func grown(c streams.Cursor, units []Unit) ([]Unit, int) {
	have := standing(c, units)
	for size := 400; have < 0 && size <= 200_000; size *= 2 {
		units = Units(seed, size)
		have = standing(c, units)
	}
	if units == nil {
		units = Units(seed, 400)
	}

	return units, have
}

func count(units []Unit) (n int) {
	for _, u := range units {
		n += len(u)
	}
	return n
}

// writer is a process of writeOn.
type writer struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	acks   chan int // the first acknowledgment
	once   sync.Once
	last   int
	read   chan struct{} // closed when its output has ended
}

func startWriter(file string, epoch uint64) (*writer, error) {
	w := &writer{acks: make(chan int, 1), read: make(chan struct{})}
	w.cmd = exec.Command(os.Args[0], "-test.run=^$")
	w.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d", writerEnv, file, epoch))
	w.cmd.Stderr = &w.stderr
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	go w.follow(out)

	return w, nil
}

func (w *writer) follow(out io.Reader) {
	defer close(w.read)
	defer close(w.acks)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		n, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "ack "))
		if err != nil {
			continue
		}
		if w.last == 0 {
			w.acks <- n
		}
		w.last = n
	}
}

// firstAck waits for the first acknowledgment.
func (w *writer) firstAck() error {
	if _, ok := <-w.acks; !ok {
		_ = w.cmd.Wait()
		return errors.New(w.stderr.String())
	}
	return nil
}

// kill ends the writer by SIGKILL, and returns how many units it had said to be acknowledged.
func (w *writer) kill() int {
	w.once.Do(func() {
		_ = w.cmd.Process.Signal(syscall.SIGKILL) // it may have ended by itself
		<-w.read
		_ = w.cmd.Wait()
	})
	return w.last
}
