package otpdiff

import (
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/internal/require"
)

var (
	seed  = flag.Uint64("seed", 1, "seed of the histories")
	first = flag.Uint64("first", 0, "number of the first history")
	count = flag.Uint64("n", 300, "how many histories of the main set")
	timed = flag.Uint64("timed", 2, "how many histories whose window expires")
)

// ran and differ are over all sets; the last line tells them.
var ran, differ atomic.Uint64

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		fmt.Printf("otp-diff: seed %d: %d histories ran, %d differ\n", *seed, ran.Load(), differ.Load())
		os.Exit(status)
	}))
}

func startErlang(t *testing.T) *Erlang {
	t.Helper()
	require.Tool(t, "erlang")
	e, err := StartErlang(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// playHere plays a history on package supervisor, in a bubble.
func playHere(t *testing.T, h History) (trace string) {
	synctest.Test(t, func(*testing.T) { trace = play(h, synctest.Wait) })
	return trace
}

func receive(t *testing.T, e *Erlang, h History) sides {
	t.Helper()
	here := playHere(t, h)
	otp, err := e.Receive()
	if err != nil {
		t.Fatal(err)
	}
	return newSides(h, otp, here)
}

func both(t *testing.T, e *Erlang, h History) sides {
	t.Helper()
	if err := e.Send(h); err != nil {
		t.Fatal(err)
	}
	return receive(t, e, h)
}

// shown is how many differences are made small and printed; each takes its time.
const shown = 3

// check counts, and prints what differs.
func check(t *testing.T, name string, h History, s sides, again func(History) sides) {
	t.Helper()
	ran.Add(1)
	if !s.differ() {
		return
	}
	if differ.Add(1) > shown {
		t.Errorf("%s differs", name)
		return
	}
	small := Shrink(h, func(h History) bool { return again(h).differ() })
	t.Errorf("%s differs\n%s\n%s", name, again(small), small.Script())
}

// The main set: random trees and histories, all in one Erlang process, which plays ahead while this one compares.
func TestDifferential(t *testing.T) {
	e := startErlang(t)
	t.Parallel()
	const ahead = 64
	histories := make(chan History, ahead)
	go func() {
		defer close(histories)
		for i := range *count {
			h := Generate(*seed, *first+i)
			if e.Send(h) != nil {
				return // Receive says why
			}
			histories <- h
		}
	}()
	reached := seen{}
	bad := map[uint64]History{}
	i := *first
	for h := range histories {
		s := receive(t, e, h)
		reached.add(s.otp)
		if s.differ() {
			bad[i] = h
		} else {
			ran.Add(1)
		}
		i++
	}
	if i != *first+*count {
		t.Fatalf("%d of %d histories were played", i-*first, *count)
	}
	for i, h := range bad {
		check(t, fmt.Sprintf("history %d of seed %d", i, *seed), h, both(t, e, h), func(h History) sides { return both(t, e, h) })
	}
	t.Logf("reached: %v", reached)
	if *count < 300 {
		return
	}
	// What even a small set must have met, or it compares nothing with nothing.
	for _, kind := range []string{
		"answer ok", "answer error", "answer gone", "answer already_started", "answer already_present", "answer not_found", "answer running", "answer restarting",
		"answer bad_spec", "answer permanent", "report start_error", "report child_terminated", "report shutdown_error", "report gave_up", "stop shutdown", "stop killed",
		"stop normal", "stop crash", "stop shutdown:detail", "end shutdown", "end normal", "end killed", "end crash", "which not running", "blocked", "skipped", "absent", "over",
	} {
		if reached[kind] == 0 {
			t.Errorf("no history met %q", kind)
		}
	}
}

// The small set whose window expires: OTP sleeps, the bubble does not.
func TestDifferential_Timed(t *testing.T) {
	e := startErlang(t)
	t.Parallel()
	for i := range *timed {
		h := GenerateTimed(*seed, i)
		check(t, fmt.Sprintf("timed history %d of seed %d", i, *seed), h, both(t, e, h), func(h History) sides { return both(t, e, h) })
	}
}
