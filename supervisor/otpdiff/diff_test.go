package otpdiff

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

var (
	seed  = flag.Uint64("seed", 1, "seed of the histories")
	first = flag.Uint64("first", 0, "number of the first history")
	count = flag.Uint64("n", 300, "how many histories of the main set")
	plant = flag.Bool("plant", false, "turn one answer of package supervisor around, to see that a difference is "+
		"found, made small and printed")
	timed = flag.Uint64("timed", 2, "how many histories whose window expires")
)

// covered counts the features of the histories of the main set.
var covered coverage

// ran and differ count histories of all sets, for the last line of output.
var ran, differ atomic.Uint64

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if covered.histories > 0 {
			fmt.Print(&covered)
		}
		fmt.Printf("otp-diff: seed %d: %d histories ran, %d differ\n", *seed, ran.Load(), differ.Load())
		os.Exit(status)
	}))
}

// needErlang skips the test where Erlang is not installed. Where COPPICE_REQUIRE names "erlang", it
// fails the test instead, so that CI does not pass by skipping.
func needErlang(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("erl"); err == nil {
		return
	}

	demanded := strings.FieldsFunc(os.Getenv("COPPICE_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(demanded, "erlang") {
		t.Fatal("erl is not installed, and COPPICE_REQUIRE demands erlang")
	}
	t.Skip("needs erlang: erl is not installed")
}

func startErlang(t *testing.T) *erlang {
	t.Helper()
	needErlang(t)
	e, err := launchErlang(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// playHere plays a history on package supervisor, in a bubble.
func playHere(t *testing.T, h History) (trace string, met features) {
	met = features{}
	synctest.Test(t, func(*testing.T) { trace = play(h, synctest.Wait, met) })
	return trace, met
}

func receive(t *testing.T, e *erlang, h History) sides {
	t.Helper()
	here, met := playHere(t, h)
	otp, err := e.receive()
	if err != nil {
		t.Fatal(err)
	}
	if *plant {
		here = planted.ReplaceAllString(here, "$1 ok")
	}

	s := newSides(h, otp, here)
	s.met = met

	return s
}

// planted is a bug on this side: a child that is restarting can be deleted, or restarted by hand.
var planted = regexp.MustCompile(`(?m)^(answer \d+:) restarting$`)

func both(t *testing.T, e *erlang, h History) sides {
	t.Helper()
	if err := e.send(h); err != nil {
		t.Fatal(err)
	}
	return receive(t, e, h)
}

// shown is how many differences are made small and printed. Each takes some time.
const shown = 3

// check counts a history, and prints it if its traces differ.
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

	small := shrink(h, func(h History) bool { return again(h).differ() })
	t.Errorf("%s differs\n%s\n%s", name, again(small), small.script())
}

// The main set has random trees and histories. One Erlang process plays them all, ahead of the
// comparison.
func TestDifferential(t *testing.T) {
	e := startErlang(t)
	t.Parallel()
	const ahead = 64
	histories := make(chan History, ahead)
	go func() {
		defer close(histories)
		for i := range *count {
			h := generate(*seed, *first+i)
			if e.send(h) != nil {
				return // receive reports why
			}
			histories <- h
		}
	}()

	bad := map[uint64]History{}
	i := *first

	for h := range histories {
		s := receive(t, e, h)
		covered.add(h, s)
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
		check(t, fmt.Sprintf("history %d of seed %d", i, *seed), h, both(t, e, h), func(h History) sides {
			return both(t, e, h)
		})
	}

	for least, kinds := range required {
		for _, kind := range kinds {
			if *count >= least && covered.with[kind] == 0 {
				t.Errorf("none of %d histories has: %s", *count, kind)
			}
		}
	}
}

// The window expires in the histories of a small set. OTP really sleeps; the bubble does not.
func TestDifferential_Timed(t *testing.T) {
	e := startErlang(t)
	t.Parallel()
	for i := range *timed {
		h := generateTimed(*seed, i)
		check(t, fmt.Sprintf("timed history %d of seed %d", i, *seed), h, both(t, e, h), func(h History) sides {
			return both(t, e, h)
		})
	}
}
