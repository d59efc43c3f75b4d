package rounds_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// twoApps is a service of two apps, the second of which sends an estimate. STATE is the type of the
// state of the first, and PAYLOAD what the behaviour of the second returns.
const twoApps = `package apps

import (
	"context"

	"github.com/coppice-go/coppice/engines/rounds"
)

type First struct{ Price int64 }

type Both struct{ Price, Estimate int64 }

func first() rounds.Table[STATE] { return rounds.Table[STATE]{} }

func second() rounds.Table[Both] {
	return rounds.Table[Both]{Rounds: rounds.Rows[Both]{"send": {Round: rounds.Same(
		func(_ context.Context, s Both) (PAYLOAD, error) { return s.Estimate, nil },
		func(s Both, sent int64) Both { return s })}}}
}

var Service = rounds.Compose("Service", nil, first(), second())
`

// What the next app needs, and the one before does not have, does not compile: the apps of a
// service have one type of state, and a round one type of payload. The original finds a missing key
// when it runs. Item 66.
func TestDefectWhatTheNextAppLacksDoesNotCompile(t *testing.T) {
	originalState := map[string]any{"price": 1} // of the first app; the second reads another key
	_, found := originalState["estimate"]
	require.False(t, found, "the original raises at run time")

	for name, c := range map[string]struct{ state, payload, want string }{
		"one state":       {"Both", "int64", ""},
		"another state":   {"First", "int64", "First"},
		"another payload": {"Both", "string", "Estimate"},
	} {
		out, err := compiled(t, strings.NewReplacer("STATE", c.state, "PAYLOAD", c.payload).Replace(twoApps))
		if c.want == "" {
			require.NoError(t, err, "%s: %s", name, out)
			continue
		}
		require.Error(t, err, name)
		require.Contains(t, out, c.want, name)
	}
}

// compiled type-checks a file as a package of this module, beside the files on the disk.
func compiled(t *testing.T, text string) (out string, err error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "apps.go")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	at, err := filepath.Abs("apps")
	require.NoError(t, err)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(at, "apps.go"): file}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))

	said, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", os.DevNull,
		"./apps").CombinedOutput()
	return string(said), err
}
