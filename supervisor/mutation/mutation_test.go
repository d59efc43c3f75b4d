package mutation

import (
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
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
	files = flag.String("mutate", "", "files of package supervisor to mutate, separated by commas; a file may end in "+
		":N, for the mutants of that line")
	otp = flag.Bool("otp", true, "play those that the tests miss against Erlang/OTP")
)

// Each mutant returns what it should, and without a mutant nothing has changed.
func TestMutants(t *testing.T) {
	source := `package main

import "fmt"

func yes(b bool) bool { return b }

func main() {
	for _, a := range []int{1, 2, 3} {
		less, same := a < 2, a == 2
		both, either := yes(a > 1) && a <= 2, a >= 3 || !yes(a != 1)
		word := "none"
		switch {
		case same:
			word = "same"
		}
		if less {
			word += " less"
		}
		fmt.Print(less, same, both, either, " ", word, "; ")
	}
}
`
	changed, mutants, err := mutateFile("main.go", []byte(source), 1)
	require.NoError(t, err)
	// The same changes by hand, each in a function of its own.
	byHand := "package main\n\nvar byHand = map[int]func(){\n"
	var functions string

	for _, m := range mutants {
		lines := strings.Split(source, "\n")
		line := lines[m.Line-1]
		lines[m.Line-1] = line[:m.Column-1] + m.To + line[m.Column-1+len(m.From):]
		_, body, _ := strings.Cut(strings.Join(lines, "\n"), "func main() ")
		functions += fmt.Sprintf("func main%d() %s\n", m.ID, body)
		byHand += fmt.Sprintf("%d: main%d,\n", m.ID, m.ID)
	}

	byHand = strings.Replace(byHand, "package main\n", "package main\n\nimport \"fmt\"\n", 1) +
		"}\n\nfunc init() {\n\tif f := byHand[-activeMutant]; f != nil {\n\t\tf()\n\t\tpanic(\"by hand\")\n\t}\n}\n\n" +
		functions
	dir := t.TempDir()

	for name, text := range map[string]string{
		"main.go": string(changed), "switch.go": fmt.Sprintf(switchSource, "main"),
		"hand.go": byHand, "go.mod": "module m\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}

	binary := filepath.Join(dir, "m")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = dir
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s\n%s\n%s", out, changed, byHand)
	run := func(id int) string {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(id))
		out, err := cmd.Output()
		require.Equal(t, id < 0, err != nil, "%v", err)
		return string(out)
	}
	calm := run(0)
	require.Equal(t, "true false false true none less; false true true false same; false false false true none; ", calm)
	var seen []string

	for _, m := range mutants {
		seen = append(seen, m.String())
		require.Equal(t, run(-m.ID), run(m.ID), "%v", m)
		require.NotEqual(t, calm, run(m.ID), "%v", m)
	}

	require.ElementsMatch(t, []string{
		"main.go:9:19 < → >=", "main.go:9:19 < → <=", "main.go:9:26 == → !=", "main.go:10:19 yes(a > 1) → !yes(a > 1)",
		"main.go:10:25 > → <=", "main.go:10:25 > → >=",
		"main.go:10:30 && → ||", "main.go:10:35 <= → >", "main.go:10:35 <= → <", "main.go:10:43 >= → <",
		"main.go:10:43 >= → >", "main.go:10:48 || → &&", "main.go:10:51 ! → ",
		"main.go:10:58 != → ==", "main.go:13:8 same → !same", "main.go:16:6 less → !less",
	}, seen)
	_, _, err = mutateFile("p.go", []byte("nonsense"), 1)
	require.Error(t, err)
}

// equivalent lists mutants that cannot be noticed: "file: line of source: from → to: reason".
//
//go:embed equivalent.txt
var equivalent string

func (m mutant) entry(source []byte) string {
	return m.File + ": " + strings.TrimSpace(strings.Split(string(source), "\n")[m.Line-1]) + ": " + m.From +
		" → " + m.To + ": "
}

// known reports whether a mutant is on the list.
func known(source []byte, m mutant) bool {
	return strings.Contains("\n"+equivalent, "\n"+m.entry(source))
}

// The list fits the present source: each entry matches a mutant and has a reason.
func TestEquivalentMutants(t *testing.T) {
	for entry := range strings.Lines(equivalent) {
		entry = strings.TrimSpace(entry)
		name, _, _ := strings.Cut(entry, ": ")
		source, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err, entry)
		_, mutants, err := mutateFile(name, source, 1)
		require.NoError(t, err)
		found := false

		for _, m := range mutants {
			reason, ok := strings.CutPrefix(entry, m.entry(source))
			found = found || ok && len(reason) > 20
		}

		require.True(t, found, "fits no mutant, or has no reason: %s", entry)
	}
}

// failed finds the names of failed tests.
var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^(panic: test timed out)|^(panic: .*)|^(fatal error: .*)`)

func TestSurvivors(t *testing.T) {
	if *files == "" {
		return // the mutator is tested above; the campaign runs only with its flag
	}

	dir := t.TempDir()
	overlay := map[string]string{}
	replace := func(path string, source []byte) {
		mutated := filepath.Join(dir, filepath.Base(path))
		require.NoError(t, os.WriteFile(mutated, source, 0o644))
		overlay[path] = mutated
	}
	pkg, err := filepath.Abs("..")
	require.NoError(t, err)
	replace(filepath.Join(pkg, "mutation_switch.go"), fmt.Appendf(nil, switchSource, "supervisor"))
	var mutants []mutant
	sources, mutantsOf, next := map[string][]byte{}, map[string][]mutant{}, 1

	for file := range strings.SplitSeq(*files, ",") {
		name, only, _ := strings.Cut(file, ":")
		if sources[name] == nil { // a file may be named for several of its lines
			source, err := os.ReadFile(filepath.Join(pkg, name))
			require.NoError(t, err)
			changed, of, err := mutateFile(name, source, next)
			require.NoError(t, err)
			replace(filepath.Join(pkg, name), changed)
			sources[name], mutantsOf[name] = source, of
			next += len(of)
		}

		for _, m := range mutantsOf[name] {
			if only == "" || strconv.Itoa(m.Line) == only {
				mutants = append(mutants, m)
			}
		}
	}

	text, err := json.Marshal(map[string]any{"Replace": overlay})
	require.NoError(t, err)
	overlayFile := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlayFile, text, 0o644))
	compile := func(name, pkg string) string {
		binary := filepath.Join(dir, name)
		out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlayFile, "-vet=off", "-o",
			binary, pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return binary
	}

	// verdict returns what notices a mutant, "" if nothing does.
	verdict := func(id int, where, binary string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Dir, cmd.Env = where, append(os.Environ(), "MUTANT="+strconv.Itoa(id), "GOTRACEBACK=none")
		out, err := cmd.CombinedOutput()
		if err == nil {
			return ""
		}
		if found := failed.FindSubmatch(out); found != nil {
			return strings.TrimSpace(string(found[0]))
		}

		return fmt.Sprintf("%v: %s", err, out)
	}
	tests, diff := compile("supervisor.test", "./.."), ""
	if *otp {
		diff = compile("otpdiff.test", "./../otpdiff")
	}

	// The quick tests run first, because they notice most mutants. A mutant that runs for ever is
	// noticed by the timeout.
	const slow = "Immediate|EveryChild|Rule75|ManyAtOnce|TestObservers"
	const about = "|Conformance|Dependencies|BuildsFor" // about the package, not about what it does
	quick := []string{"-test.failfast", "-test.timeout", "15s", "-test.skip", slow + about}
	all := []string{"-test.failfast", "-test.timeout", "60s", "-test.run", slow}
	require.Empty(t, verdict(0, pkg, tests, quick...)+verdict(0, pkg, tests, all...), "the tests fail without a mutant")
	byOTP, unnoticeable, survivors := 0, 0, 0

	for _, m := range mutants {
		line := strings.TrimSpace(strings.Split(string(sources[m.File]), "\n")[m.Line-1])
		if known(sources[m.File], m) {
			unnoticeable++
			t.Logf("%v: equivalent: %s", m, line)
			continue
		}

		by := verdict(m.ID, pkg, tests, quick...)
		if by == "" {
			by = verdict(m.ID, pkg, tests, all...)
		}

		if by == "" && *otp {
			if by = verdict(m.ID, filepath.Join(pkg, "otpdiff"), diff, "-test.timeout", "120s", "-test.run",
				"^TestDifferential$", "-n", "2000"); by != "" {
				byOTP++
				by = "only the comparison with OTP: " + by
			}
		}

		if by == "" {
			survivors++
			t.Errorf("%v survives: %s", m, line)
			continue
		}

		t.Logf("%v: %s", m, by)
	}

	t.Logf("%d mutants: %d noticed (%d of them by OTP alone), %d are equivalent, %d survive", len(mutants),
		len(mutants)-unnoticeable-survivors, byOTP, unnoticeable, survivors)
}
