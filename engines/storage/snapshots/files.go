package snapshots

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func exists(fs vfs.FS, path string) (bool, error) {
	_, err := fs.Stat(path)
	if notExist(err) {
		return false, nil
	}
	return err == nil, err
}

// partOfState reports whether the file of that name in a snapshot's directory belongs to the state.
func partOfState(name string) bool {
	return name != manifestName && name != "LOCK" && !strings.HasSuffix(name, ".tmp")
}

// sumFile returns the manifest's entry for a file.
func sumFile(fs vfs.FS, dir, name string) (File, error) {
	f, err := fs.Open(fs.PathJoin(dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return File{}, err
	}
	defer f.Close()

	h := sha256.New()
	n, err := io.Copy(h, struct{ io.Reader }{f})
	if err != nil {
		return File{}, fmt.Errorf("reading %s: %w", name, err)
	}

	return File{Name: name, Size: n, SHA256: h.Sum(nil)}, nil
}
