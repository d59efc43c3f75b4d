package dump

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// homeFiles are the files of a home that an archive has. None of them holds a key or a token.
var homeFiles = []string{
	"node.json", "genesis.json", "coppice.toml", "FORMAT", "STARTED", "backends.json", "data/history.json",
	"data/installing", "data/inflight/deaths.json", "comet/config/genesis.json", "comet/config/config.toml",
}

// Bounds of what is read of a home.
const (
	maxFile  = 8 << 20
	maxList  = 50_000 // files
	tailSize = 1 << 20
)

// Home returns the parts that are files of a home, and the list of all its files.
func Home(home string) []Part {
	parts := []Part{{"home/FILES", func(ctx context.Context) ([]byte, error) { return list(ctx, home) }}}

	for _, name := range homeFiles {
		parts = append(parts, Part{"home/" + name, func(context.Context) ([]byte, error) {
			return readFile(filepath.Join(home, filepath.FromSlash(name)))
		}})
	}

	return parts
}

// readFile reads a file of at most maxFile bytes.
func readFile(name string) ([]byte, error) {
	info, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, LeftOut("there is no such file")
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file, but a %v", name, info.Mode().Type())
	}

	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%w: the first %d of %d bytes", ErrCut, maxFile, info.Size())
	}
	return data, err
}

// list lists the files of a home: mode, size, time of the last change, and path. It lists names
// only, and goes on after an error, which it lists as well.
func list(ctx context.Context, home string) ([]byte, error) {
	var b bytes.Buffer
	n := 0

	err := filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n++; n > maxList {
			return fmt.Errorf("%w: the first %d files", ErrCut, maxList)
		}

		rel, relErr := filepath.Rel(home, path)
		if err = errors.Join(err, relErr); err != nil {
			fmt.Fprintf(&b, "%s: %v\n", path, err)
			return nil
		}

		info, err := e.Info()
		if err != nil { // it was removed meanwhile
			fmt.Fprintf(&b, "%s: %v\n", rel, err)
			return nil
		}

		fmt.Fprintf(&b, "%v %12d %s %s", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), rel)
		if to, err := os.Readlink(path); err == nil {
			fmt.Fprintf(&b, " -> %s", to)
		}
		b.WriteByte('\n')

		return nil
	})

	return b.Bytes(), err
}

// Tail returns the last lines of a file, at most tailSize bytes of them. The file may be the
// standard error of a process, as the system shows it: then it must be a regular file.
func Tail(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file, but a %v", name, info.Mode().Type())
	}

	from := max(0, info.Size()-tailSize)
	data, err := io.ReadAll(io.NewSectionReader(f, from, tailSize))
	if err != nil || from == 0 {
		return data, err
	}

	_, data, _ = bytes.Cut(data, []byte("\n")) // the first line is cut off
	return data, fmt.Errorf("%w: the last of %d bytes", ErrCut, info.Size())
}
