package offline

import (
	"errors"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/coppice-go/coppice/engines/consensus"
)

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// measure notes how many bytes a directory of the home has before anything is removed.
func (h *StoppedHome) measure(part *Part, name, dir string) error {
	n, err := bytesBelow(h.disk, dir)
	part.Sizes = []consensus.Size{{Name: name, Before: n, After: n}}
	return err
}

// measureAfter notes how many bytes the directory has now.
func (h *StoppedHome) measureAfter(part *Part, dir string) (err error) {
	part.Sizes[0].After, err = bytesBelow(h.disk, dir)
	return err
}

// bytesBelow returns the size of all files below a directory.
func bytesBelow(disk vfs.FS, path string) (int64, error) {
	info, err := disk.Stat(path)
	if notExist(err) {
		return 0, nil
	}
	if err != nil || !info.IsDir() {
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}

	names, err := disk.List(path)
	if err != nil {
		return 0, err
	}

	sum := int64(0)
	for _, name := range names {
		n, err := bytesBelow(disk, disk.PathJoin(path, name))
		if err != nil {
			return 0, err
		}
		sum += n
	}

	return sum, nil
}
