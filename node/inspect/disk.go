package inspect

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// diskJSON is the part disk.json.
type diskJSON struct {
	Home        string              `json:"home"`
	FileSystem  int64               `json:"file_system"` // its type, as the system numbers it
	Size        uint64              `json:"size"`
	Free        uint64              `json:"free"` // for a process without privileges
	Inodes      uint64              `json:"inodes"`
	FreeInodes  uint64              `json:"free_inodes"`
	Directories map[string]usedJSON `json:"directories"` // of the home: "data/log", "comet/data", …
}

type usedJSON struct {
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
}

// Disk returns the part about the disk of a home.
func Disk(home string) Part {
	return Part{"disk.json", func(ctx context.Context, w io.Writer) error {
		var s unix.Statfs_t
		if err := unix.Statfs(home, &s); err != nil {
			return &fs.PathError{Op: "statfs", Path: home, Err: err}
		}

		block := uint64(s.Bsize)
		j := diskJSON{
			Home: home, Size: s.Blocks * block,
			FileSystem: int64(s.Type),                        //nolint:unconvert // of another type elsewhere
			Free:       uint64(s.Bavail) * block,             //nolint:unconvert // the same
			Inodes:     s.Files, FreeInodes: uint64(s.Ffree), //nolint:unconvert // the same
			Directories: map[string]usedJSON{},
		}

		if err := used(ctx, home, j.Directories); err != nil {
			return err
		}
		return JSON(w, j)
	}}
}

// used adds up the files of a home by the first two directories of their paths. Files that go away
// meanwhile do not count.
func used(ctx context.Context, home string, sums map[string]usedJSON) error {
	return filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist), err == nil && !e.Type().IsRegular():
			return nil
		case err != nil:
			return err
		}

		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}

		rel, err := filepath.Rel(home, filepath.Dir(path))
		if err != nil {
			return err
		}

		dirs := strings.Split(filepath.ToSlash(rel), "/")
		name := strings.Join(dirs[:min(2, len(dirs))], "/")
		sum := sums[name]
		sums[name] = usedJSON{sum.Files + 1, sum.Bytes + info.Size()}

		return nil
	})
}
