package file

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
)

// Item 55: beside a loop that writes the same lines of JSON with one write and one fdatasync a
// block.
func BenchmarkFile(b *testing.B) {
	for _, changes := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(changes), func(b *testing.B) {
			dir := b.TempDir()
			s, err := Factory().New(definition(b, filepath.Join(dir, "out")), streams.Secrets{})
			require.NoError(b, err)
			defer s.Close(b.Context())
			_, err = s.Open(b.Context(), streams.Opening{Slot: "out", ChainID: sinktest.ChainID, Definition: "d",
				Epoch: 1})
			require.NoError(b, err)
			f, err := os.Create(filepath.Join(dir, "plain"))
			require.NoError(b, err)
			defer f.Close()

			var lines []byte
			sinktest.Compare(b, 0.8, sinktest.Blocks(b.N, changes),
				func(u sinktest.Unit) error { return s.Write(b.Context(), sinktest.Feed(u)) },
				func(u sinktest.Unit) error {
					lines = lines[:0]
					for _, e := range u {
						lines = append(streams.AppendJSON(lines, e), '\n')
					}
					if _, err := f.Write(lines); err != nil {
						return err
					}
					return syscall.Fdatasync(int(f.Fd()))
				})
		})
	}
}
