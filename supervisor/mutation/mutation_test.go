package mutation

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var files = flag.String("mutate", "", "files of package supervisor to mutate, separated by commas")

func TestMutants(t *testing.T) {
	source := "package p\n\nvar x = 1 < 2 && 3 == 4 // a < b\n"
	got, err := Mutants("p.go", []byte(source))
	require.NoError(t, err)
	var changed []string
	for _, m := range got {
		changed = append(changed, strings.TrimSpace(strings.Split(string(m.Source), "\n")[2]))
	}
	require.Equal(t, []string{
		"var x = 1 < 2 || 3 == 4 // a < b", "var x = 1 <= 2 && 3 == 4 // a < b", "var x = 1 >= 2 && 3 == 4 // a < b", "var x = 1 < 2 && 3 != 4 // a < b",
	}, changed)
	require.Equal(t, "3:15 && → ||", got[0].String())
	_, err = Mutants("p.go", []byte("nonsense"))
	require.Error(t, err)
}

// failed finds the names of failed tests.
var failed = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^(panic: test timed out)|^(panic: .*)`)

// verdict runs a package's tests with an overlay: what noticed, "" for nothing.
func verdict(ctx context.Context, t *testing.T, overlay, pkg string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-failfast", "-timeout", "60s", pkg)
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
	all, byOTP, invalid, survivors := 0, 0, 0, 0
	for name := range strings.SplitSeq(*files, ",") {
		path, err := filepath.Abs(filepath.Join("..", name))
		require.NoError(t, err)
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		mutants, err := Mutants(name, source)
		require.NoError(t, err)
		for _, m := range mutants {
			all++
			mutated := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(mutated, m.Source, 0o644))
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
			require.NoError(t, err)
			overlayFile := filepath.Join(dir, "overlay.json")
			require.NoError(t, os.WriteFile(overlayFile, overlay, 0o644))
			by := verdict(t.Context(), t, overlayFile, "github.com/coppice-go/coppice/supervisor")
			switch {
			case by == "it does not compile":
				invalid++
			case by == "":
				line := strings.TrimSpace(strings.Split(string(source), "\n")[m.Line-1])
				if by = verdict(t.Context(), t, overlayFile, "github.com/coppice-go/coppice/supervisor/otpdiff"); by != "" {
					byOTP++
					t.Logf("%s:%v: only the comparison with OTP noticed (%s): %s", name, m, by, line)
				} else {
					survivors++
					t.Errorf("%s:%v survives: %s", name, m, line)
				}
				continue
			}
			t.Logf("%s:%v: %s", name, m, by)
		}
	}
	t.Logf("%d mutants, %d do not compile, %d noticed by OTP alone, %d survive", all, invalid, byOTP, survivors)
}
