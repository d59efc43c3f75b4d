package offline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/engines/consensus/comet/child"
	"github.com/coppice-go/coppice/engines/consensus/solo"
	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/exit"
	"github.com/coppice-go/coppice/node/home"
)

func TestMain(m *testing.M) {
	consensus.Register(solo.Kind{}, comet.Kind{})
	if len(os.Args) > 1 && os.Args[1] == child.Command {
		os.Exit(runCometBFT(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// runCometBFT is the main function of the test binary if a node runs it as its CometBFT.
func runCometBFT(args []string) int {
	f := flag.NewFlagSet(child.Command, flag.ContinueOnError)
	run := comet.Kind{}.Traits().Commands[0].New(f)
	if err := f.Parse(args); err != nil {
		return exit.Usage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	status, err := run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return status
}

func formatOf(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, home.FormatFile))
	require.NoError(t, err)
	return string(b)
}

// A newer home is refused with the program that it wants; what is no home's format is told from
// that.
func TestANewerHomeIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"coppice home 2\nneeds coppice v1.4.0\n": "has format 2, this program reads up to 1: it needs coppice " +
			"v1.4.0 or newer",
		"coppice home 9\n":  "has format 9, this program reads up to 1: it needs a newer coppice than this",
		"coppice home 0\n":  "no home of coppice, or its file is damaged",
		"coppice home 01\n": "or its file is damaged",
		"coppice home 1x\n": "or its file is damaged",
		"":                  "or its file is damaged",
	} {
		dir := filepath.Join(t.TempDir(), "home")
		_, err := home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, home.FormatFile), []byte(text), 0o644))
		_, err = node.New(dir, config.Defaults())
		require.ErrorIs(t, err, exit.ErrConfig)
		require.ErrorContains(t, err, want)
		_, err = Upgrade(dir, false)
		require.ErrorIs(t, err, exit.ErrConfig)
		require.ErrorContains(t, err, want)
		require.Equal(t, text, formatOf(t, dir))
	}
}

// An older home is upgraded a format at a time. A process that ends in the middle of a step leaves
// a home whose upgrade can be run again, and begins with that step.
func TestAnUpgradeCanBeCutAnywhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	_, err := home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	cut := errors.New("cut")
	var runs []int
	known := []migration{
		{to: 2, does: "a notice is written", needs: "v0.2.0", run: func(dir string) error {
			runs = append(runs, 2)
			return durable.OS.Replace(filepath.Join(dir, "notice"), []byte("two"), 0o644)
		}},
		{to: 3, does: "the notice is renamed", needs: "v0.3.0", run: func(home string) error {
			runs = append(runs, 3)
			err := os.Rename(filepath.Join(home, "notice"), filepath.Join(home, "note"))
			if errors.Is(err, os.ErrNotExist) {
				return nil // an earlier run came this far
			}
			return errors.Join(err, cut)
		}},
	}
	u, err := upgrade(dir, true, known)
	require.NoError(t, err)
	require.Equal(t, Upgraded{From: 1, To: 3,
		Steps: []string{"format 1 to 2: a notice is written", "format 2 to 3: the notice is renamed"}}, u)
	require.Empty(t, runs)
	require.Equal(t, "coppice home 1\n", formatOf(t, dir))

	_, err = upgrade(dir, false, known)
	require.ErrorIs(t, err, cut)
	require.ErrorContains(t, err, "still has format 2, and the upgrade can be run again")
	require.Equal(t, "coppice home 2\nneeds coppice v0.2.0\n", formatOf(t, dir))

	u, err = upgrade(dir, false, known)
	require.NoError(t, err)
	require.Equal(t, 2, u.From)
	require.Equal(t, []int{2, 3, 3}, runs)
	require.Equal(t, "coppice home 3\nneeds coppice v0.3.0\n", formatOf(t, dir))
	require.FileExists(t, filepath.Join(dir, "note"))

	u, err = upgrade(dir, false, known)
	require.NoError(t, err)
	require.Empty(t, u.Steps)

	_, err = node.New(dir, config.Defaults())
	require.ErrorContains(t, err, "it needs coppice v0.3.0 or newer")
}

func TestAHomeInUseIsNotUpgraded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	_, err := home.Init(dir, home.InitOptions{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	n, err := node.New(dir, config.Defaults())
	require.NoError(t, err)
	_, err = Upgrade(dir, false)
	require.ErrorIs(t, err, exit.ErrHomeInUse)
	require.NoError(t, n.Close())
	_, err = Upgrade(dir, false)
	require.NoError(t, err)
}

// The formats follow each other, and this program reads the last.
func TestTheMigrationsAreInOrder(t *testing.T) {
	require.Len(t, migrations, int(home.CurrentVersion)-1)
	for i, m := range migrations {
		require.Equal(t, i+2, m.to)
		require.NotEmpty(t, m.does)
		require.NotEmpty(t, m.needs)
	}
}
