package exit

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnErrorOfTheSystemIsNotDamage(t *testing.T) {
	for _, system := range []error{syscall.ENOSPC, syscall.EMFILE, syscall.EIO} {
		err := Damaged(&os.PathError{Op: "open", Path: "file", Err: system})
		require.ErrorIs(t, err, system)
		require.Equal(t, Failed, Code(Classify(err)))
	}
	require.Equal(t, Damage, Code(Damaged(errors.New("another content"))))
	require.Equal(t, Damage, Code(Damaged(&os.PathError{Op: "open", Path: "file", Err: syscall.ENOENT})))
}
