package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/node/gate"
)

const streamsPrefix = StreamsName + "/"

// isStreamsFile reports whether a name is that of a definition of a stream, or of the gates.
func isStreamsFile(name string) bool {
	slot, ok := strings.CutSuffix(name, ".toml")
	return ok && (name == gate.FileName || streams.CheckName(slot) == nil)
}

// streams sends the definitions of streams and the gates. Slot files are not sent: a sink that was
// written since knows better where it stands, and a node from a backup must not take it as its own
// (R25).
func (b *Sender) streams(ctx context.Context) error {
	dir := filepath.Join(b.Home, StreamsName)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}

	for _, e := range entries {
		if e.IsDir() || !isStreamsFile(e.Name()) {
			continue
		}
		if err := b.file(ctx, streamsPrefix+e.Name(), func() (io.ReadCloser, error) {
			return os.Open(filepath.Join(dir, e.Name()))
		}); err != nil {
			return err
		}
	}

	return nil
}

// streamsPath returns the path of a file of the streams, which it notes.
func (w *Writer) streamsPath(base string) (string, error) {
	w.info.Streams, w.info.Format = append(w.info.Streams, base), formatStreams
	dir := filepath.Join(w.tmp, StreamsName)
	return filepath.Join(dir, base), os.MkdirAll(dir, 0o700)
}

// streamsNames returns the names of the files of the streams, as in Info.Files.
func (b Info) streamsNames() (names []string, err error) {
	for _, name := range b.Streams {
		if !isStreamsFile(name) {
			return nil, fmt.Errorf("%s names the file %q of the streams, want NAME.toml", FileName, name)
		}
		names = append(names, streamsPrefix+name)
	}
	return names, nil
}
