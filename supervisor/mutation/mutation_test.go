package mutation

import (
	"context"
	_ "embed"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	files = flag.String("mutate", "", "files of package supervisor to mutate, separated by commas; a file may end in :N, for the mutants of that line")
	otp   = flag.Bool("otp", true, "play those that the tests miss against Erlang/OTP")
)

func TestMutants(t *testing.T) {
	source := `package p

var x = 1 < 2 && !b // a < b

func f() {
	if ok {
	}
	switch {
	case g(1), x >= 1:
	}
	switch y {
	case ok:
	}
}
`
	got, err := Mutants("p.go", []byte(source))
	require.NoError(t, err)
	was := strings.Split(source, "\n")
	var changed []string
	for _, m := range got {
		for i, line := range strings.Split(string(m.Source), "\n") {
			if line != was[i] {
				changed = append(changed, strings.TrimSpace(line))
			}
		}
	}
	require.Equal(t, []string{
		"var x = 1 < 2 || !b // a < b", "var x = 1 <= 2 && !b // a < b", "var x = 1 >= 2 && !b // a < b", "var x = 1 < 2 && b // a < b",
		"if !ok {", "case !g(1), x >= 1:", "case g(1), x > 1:", "case g(1), x < 1:",
	}, changed)
	require.Equal(t, "3:15 && → ||", got[0].String())
	_, err = Mutants("p.go", []byte("nonsense"))
	require.Error(t, err)
}

// equivalent lists mutants that nobody can notice: "file: line of source: from → to: reason".
//
//go:embed equivalent.txt
var equivalent string

// known says whether a mutant is on the list.
func known(name, line string, m Mutant) bool {
	return strings.Contains("\n"+equivalent, "\n"+name+": "+line+": "+m.From+" → "+m.To+": ")
}

// The list is of the source as it is: each entry fits a mutant, and has a reason.
func TestEquivalentMutants(t *testing.T) {
	sources := map[string][]string{}
	for entry := range strings.Lines(equivalent) {
		entry = strings.TrimSpace(entry)
		name, rest, _ := strings.Cut(entry, ": ")
		source, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err, entry)
		mutants, err := Mutants(name, source)
		require.NoError(t, err)
		sources[name] = strings.Split(string(source), "\n")
		found := false
		for _, m := range mutants {
			reason, ok := strings.CutPrefix(rest, strings.TrimSpace(sources[name][m.Line-1])+": "+m.From+" → "+m.To+": ")
			found = found || ok && len(reason) > 20
		}
		require.True(t, found, "fits no mutant, or has no reason: %s", entry)
	}
}

// failed finds the names of failed tests.
var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^(panic: test timed out)|^(panic: .*)|^(fatal error: .*)`)

// verdict runs a package's tests with an overlay: what noticed, "" for nothing.
func verdict(ctx context.Context, t *testing.T, overlay, pkg string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-failfast", "-timeout", "40s", pkg)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return ""
	}
	if m := failed.FindSubmatch(out); m != nil {
		return strings.TrimSpace(string(m[0]))
	}
	t.Logf("%s", out)
	return "it does not compile"
}

func TestSurvivors(t *testing.T) {
	if *files == "" {
		return // the mutator has been tested above; the campaign is asked for by its flag
	}
	dir := t.TempDir()
	all, byOTP, invalid, unnoticeable, survivors := 0, 0, 0, 0, 0
	for name := range strings.SplitSeq(*files, ",") {
		name, only, _ := strings.Cut(name, ":")
		path, err := filepath.Abs(filepath.Join("..", name))
		require.NoError(t, err)
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		mutants, err := Mutants(name, source)
		require.NoError(t, err)
		for _, m := range mutants {
			if only != "" && strconv.Itoa(m.Line) != only {
				continue
			}
			all++
			line := strings.TrimSpace(strings.Split(string(source), "\n")[m.Line-1])
			if known(name, line, m) {
				unnoticeable++
				t.Logf("%s:%v: equivalent: %s", name, m, line)
				continue
			}
			mutated := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(mutated, m.Source, 0o644))
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
			require.NoError(t, err)
			overlayFile := filepath.Join(dir, "overlay.json")
			require.NoError(t, os.WriteFile(overlayFile, overlay, 0o644))
			by := verdict(t.Context(), t, overlayFile, "github.com/coppice-go/coppice/supervisor")
			if by == "" && *otp {
				if by = verdict(t.Context(), t, overlayFile, "github.com/coppice-go/coppice/supervisor/otpdiff"); by != "" {
					byOTP++
					by = "only the comparison with OTP: " + by
				}
			}
			switch by {
			case "it does not compile":
				invalid++
			case "":
				survivors++
				t.Errorf("%s:%v survives: %s", name, m, line)
				continue
			}
			t.Logf("%s:%v: %s", name, m, by)
		}
	}
	t.Logf("%d mutants: %d noticed (%d of them by OTP alone), %d do not compile, %d are equivalent, %d survive",
		all, all-invalid-unnoticeable-survivors, byOTP, invalid, unnoticeable, survivors)
}
