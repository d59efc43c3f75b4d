package command

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/node/api"
)

// A dump that is interrupted while it waits for a node leaves no file.
func TestAnInterruptedDumpLeavesNoFile(t *testing.T) {
	asked := make(chan struct{}, 1)
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Tree") { // it never comes
			asked <- struct{}{}
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/proto") // of an empty message
	}))
	defer node.Close()

	s := shell{t, t.TempDir()}
	s.run("init")
	file := api.NodeFile{PID: os.Getpid(), Address: node.URL}
	require.NoError(t, file.Write(filepath.Join(s.dir, "home")))
	out := filepath.Join(s.dir, "out")
	require.NoError(t, os.Mkdir(out, 0o700))

	var stderr bytes.Buffer
	c := s.command("debug", "dump", "--output", filepath.Join(out, "dump.tar.gz"), "--timeout", "1h")
	c.Stderr = &stderr
	require.NoError(t, c.Start())
	<-asked

	half, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Len(t, half, 1, "the archive is being written")
	require.NotEqual(t, "dump.tar.gz", half[0].Name())

	require.NoError(t, c.Process.Signal(syscall.SIGINT))
	require.Error(t, c.Wait())
	require.Equal(t, 1, c.ProcessState.ExitCode(), stderr.String())
	require.Contains(t, stderr.String(), "interrupted by SIGINT")

	left, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Empty(t, left)
}
