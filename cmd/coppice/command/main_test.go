package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/coppice-go/coppice/node/api"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"coppice": programMain,
		"own":     programWith(own{}),
		"newer":   programWith(newer{}),
		"unlike":  programWith(unlike{}),
		"faulty":  programWith(faulty{}),
		"adder":   adder,
		"stuck":   stuck,
		"broken":  broken,
	})
}

// TestScripts runs testdata/*.txtar, which hold what the command line promises.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"flip":     flip,
			"flood":    flood,
			"freeport": freeport,
			"metric":   metric,
			"occupy":   occupy,
			"readonly": readonly,
			"tmpfs":    tmpfs,
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "mount":
				return canMount(), nil
			case "soak":
				return os.Getenv("COPPICE_SOAK") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// setup gives every script a home of its own by COPPICE_HOME, and another HOME than the user's. It
// also shortens the second that the race detector sleeps at each exit, because a script has dozens
// of exits.
func setup(env *testscript.Env) error {
	env.Setenv("COPPICE_HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("GORACE", "atexit_sleep_ms=10")
	return nil
}

// exits CODE PROGRAM ARGS... runs a program and requires that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [args...]")
	}

	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0

	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}

	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// flip GLOB OFFSET flips a bit in the largest file that matches, in the byte at OFFSET, which may
// be "middle" or, for the last byte but four, "end".
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip glob offset")
	}

	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	var data []byte
	var name string

	for _, f := range files {
		b, err := os.ReadFile(f)
		ts.Check(err)
		if len(b) > len(data) {
			data, name = b, f
		}
	}

	at := len(data) / 2

	switch args[1] {
	case "middle":
	case "end":
		at = len(data) - 5
	default:
		at, err = strconv.Atoi(args[1])
		ts.Check(err)
	}

	if at >= len(data) {
		ts.Fatalf("nothing that matches %s has a byte %d", args[0], at)
	}

	data[at] ^= 0x10
	ts.Check(os.WriteFile(name, data, 0o644))
	ts.Logf("flipped a bit at byte %d of %s", at, name)
}

// occupy VARIABLE listens on a port until the script ends, and sets the variable to its address.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: occupy variable")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
}

// freeport VARIABLE... sets each variable to a loopback address on which no process listens. The
// ports are below those that the system assigns by itself.
func freeport(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: freeport variable...")
	}

	for _, name := range args {
		for {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000)))
			if err != nil {
				continue
			}
			defer l.Close() // at the end, so that each is another
			ts.Setenv(name, l.Addr().String())
			break
		}
	}
}

// metric NAME VALUE waits until the metrics of the home's node have that value. NAME is a regular
// expression.
func metric(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: metric name value")
	}

	want, err := regexp.Compile("(?m)^" + args[0] + " " + regexp.QuoteMeta(args[1]) + "$")
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()

	for {
		n, err := api.ReadNodeFile(ts.Getenv("COPPICE_HOME"))
		ts.Check(err)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Address+"/metrics", nil)
		ts.Check(err)
		res, err := http.DefaultClient.Do(req)
		ts.Check(err)
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		ts.Check(err)
		if want.Match(text) {
			return
		}

		select {
		case <-again.C:
		case <-ctx.Done():
			ts.Fatalf("%s is not %s:\n%s", args[0], args[1], text)
		}
	}
}
