package process

import (
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A process keeps its number between its end and its reaping. At that moment its group can be
// killed without the risk of killing another one.
func TestAwaitEndDoesNotReap(t *testing.T) {
	c := exec.Command("/bin/cat") // ends at once, its input is the null device
	require.NoError(t, c.Start())
	require.True(t, awaitEnd(c.Process.Pid))
	require.NoError(t, syscall.Kill(c.Process.Pid, 0), "it is there, as a zombie")
	require.NoError(t, c.Wait())
	require.False(t, awaitEnd(c.Process.Pid), "there is nothing to wait for")
}
