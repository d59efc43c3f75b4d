package home

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/coppice-go/coppice/internal/durable"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/exit"
)

// RotateToken puts a new token into the file of the given level, which it returns. The token that
// was there stays valid for the grace; with a grace of 0, or if there was none, expires is zero.
// A running node follows the files. Errors are exit.ErrConfig.
func RotateToken(home string, a api.Access, grace time.Duration) (path string, expires time.Time, err error) {
	if !IsHome(home) {
		return "", expires, exit.NoHome(home, FormatFile)
	}
	path = filepath.Join(home, a.File())
	if err := ownedByUs(path); err != nil {
		return path, expires, err
	}

	old, err := ReadToken(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return path, expires, err
	}

	// The old token is kept aside before the new one is in its place, so that there is no time in
	// which the node refuses it.
	if old != "" && grace > 0 {
		expires = time.Now().Add(grace).UTC().Truncate(time.Second)
		line := fmt.Appendf(nil, "%s %s\n", old, expires.Format(time.RFC3339))
		err = durable.OS.Replace(path+replacedSuffix, line, 0o600)
	} else {
		err = removeIfThere(path + replacedSuffix)
	}

	if err == nil {
		err = durable.OS.Replace(path, []byte(rand.Text()+"\n"), 0o600)
	}
	if err != nil {
		return path, expires, fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	return path, expires, nil
}

func removeIfThere(path string) error {
	if err := durable.OS.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ownedByUs returns an error if the file belongs to another user. The node, which runs as that
// user, could not read a new file of ours.
func ownedByUs(path string) error {
	dir, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("%w: %w", exit.ErrConfig, err)
	}

	owner := dir.Sys().(*syscall.Stat_t).Uid
	if us := uint32(os.Geteuid()); owner != us {
		return fmt.Errorf("%w: %s belongs to user %d and this is user %d: run this as the owner, so that the node can "+
			"read the new file", exit.ErrConfig, filepath.Dir(path), owner, us)
	}

	return nil
}
