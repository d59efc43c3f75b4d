package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check implements streams.Checker: the directory, or the nearest that exists above it, must be one
// in which this process may make files.
func (s *sink) Check(context.Context) ([]string, error) {
	for dir := s.dir; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir):
			continue
		case err != nil:
			return nil, s.definition.Bad("dir", "cannot be used: "+err.Error())
		case !info.IsDir():
			return nil, s.definition.Bad("dir", fmt.Sprintf("cannot be used: %s is no directory", dir))
		}
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			return nil, s.definition.Bad("dir", fmt.Sprintf("cannot be used: no file can be made in %s: %v", dir, err))
		}
		return nil, nil
	}
}
