package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
)

// definition returns the definition of a file sink in dir.
func definition(t testing.TB, dir string) streams.Definition {
	t.Helper()
	d, err := streams.ParseDefinition(filepath.Join(t.TempDir(), "out.toml"),
		fmt.Appendf(nil, "kind = \"file\"\ndir = %q\n", dir))
	require.NoError(t, err)
	return d
}

func TestTheFileSinkKeepsTheContract(t *testing.T) {
	sinktest.Run(t, Factory(), sinktest.Rig{Target: func(t testing.TB) sinktest.Target {
		dir := filepath.Join(t.TempDir(), "out")
		return sinktest.Target{Definition: definition(t, dir), Damage: damage(dir)}
	}})
}

// Files that are full after a few lines give the same.
func TestTheFileSinkKeepsTheContractOverManyFiles(t *testing.T) {
	every := sinktest.Thinned(7)
	sinktest.Run(t, factory(osFS{}, 2000), sinktest.Rig{Every: every, Target: func(t testing.TB) sinktest.Target {
		return sinktest.Target{Definition: definition(t, filepath.Join(t.TempDir(), "out"))}
	}})
}

// damage returns functions that plant faults in the only file of a sink.
func damage(dir string) map[streams.Fault]func() error {
	edit := func(f func(lines []string) []string) func() error {
		return func() error {
			name := fileName(dir, 1)
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return os.WriteFile(name, []byte(join(f(split(string(b))))), 0o600)
		}
	}

	return map[streams.Fault]func() error{
		streams.FaultLost:    edit(func(l []string) []string { return append(l[:9:9], l[10:]...) }),
		streams.FaultDoubled: edit(func(l []string) []string { return append(l[:10:10], l[9:]...) }),
		streams.FaultSwapped: edit(func(l []string) []string { l[9], l[10] = l[10], l[9]; return l }),
		streams.FaultChanged: edit(func(l []string) []string {
			for i := 6; i < len(l); i++ {
				if c := changed(l[i]); c != l[i] {
					l[i] = c
					return l
				}
			}
			return l
		}),
		streams.FaultForeign: edit(func(l []string) []string {
			e := streams.Event{Place: streams.Place{ChainID: "other", Position: streams.Position{Height: 2}},
				Body: &streams.Change{Key: []byte("k")}}
			line := string(appendEvent(nil, 10, e, 0))
			return append(append(append([]string{}, l[:9]...), line[:len(line)-1]), l[9:]...)
		}),
	}
}
