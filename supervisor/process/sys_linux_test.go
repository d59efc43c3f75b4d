package process

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Between its end and its reaping a process keeps its number: the moment in which its group can be
// killed and no stranger's.
func TestAwaitEndDoesNotReap(t *testing.T) {
	c := exec.Command("/bin/cat") // ends at once, its input is the null device
	require.NoError(t, c.Start())
	require.True(t, awaitEnd(c.Process.Pid))
	require.NoError(t, syscall.Kill(c.Process.Pid, 0), "it is there, as a zombie")
	require.NoError(t, c.Wait())
	require.False(t, awaitEnd(c.Process.Pid), "there is nothing to wait for")
}
