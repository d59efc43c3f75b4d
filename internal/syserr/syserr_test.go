package syserr_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/internal/syserr"
)

func TestWhatFilesHoldIsNoErrorOfTheSystem(t *testing.T) {
	for _, e := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EACCES, syscall.EIO, syscall.EMFILE} {
		require.True(t, syserr.Is(fmt.Errorf("a: %w", &fs.PathError{Op: "open", Path: "b", Err: e})), e)
	}

	dir := t.TempDir()
	_, missing := os.Open(filepath.Join(dir, "missing"))
	_, other := os.ReadFile(dir)
	for _, e := range []error{nil, errors.New("a checksum"), missing, other} {
		require.False(t, syserr.Is(e), "%v", e)
	}
}
