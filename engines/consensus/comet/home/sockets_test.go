package home

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tempDir gives the test its own temporary directory, with a path that is short enough for sockets.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "c")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	t.Setenv("TMPDIR", dir)
	return dir
}

// far returns a home whose path is too long for sockets in it.
func far() string { return "/" + strings.Repeat("far", 30) }

// deadSocket makes a socket as a killed process leaves it.
func deadSocket(t *testing.T, dir string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, "abci-1-1.sock"))
	require.NoError(t, err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
}

// The socket directory of a home with a long path exists as long as it is held. A second holder in
// the same process is not kept out, such as an incarnation whose predecessor does not end.
func TestSocketsFarFromTheirHomeGoWithTheNode(t *testing.T) {
	temp, home := tempDir(t), far()
	first, err := HoldSockets(home)
	require.NoError(t, err)
	dir := SocketDir(home)
	require.Equal(t, temp, filepath.Dir(dir))
	deadSocket(t, dir)
	second, err := HoldSockets(home)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "abci-1-1.sock"))
	first()
	first()
	require.DirExists(t, dir)
	deadSocket(t, dir)
	second()
	require.NoDirExists(t, dir)
}

// A start removes what ended processes have left. It removes nothing that is in use or that is not
// ours.
func TestAStartRemovesLeftoverSockets(t *testing.T) {
	temp := tempDir(t)
	hour := time.Now().Add(-2 * unlockedAge)
	old := func(dir string) { require.NoError(t, os.Chtimes(dir, hour, hour)) }
	made := func(name string) string {
		dir := filepath.Join(temp, tempPrefix()+name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		return dir
	}
	var gone, stay []string

	killed := made("killed") // its process held the lock and was killed
	lock, err := lockSockets(killed)
	require.NoError(t, err)
	deadSocket(t, killed)
	require.NoError(t, lock.Close())
	unlocked := made("unlocked") // made by a version without locks
	deadSocket(t, unlocked)
	old(unlocked)
	empty := made("empty")
	old(empty)
	gone = append(gone, killed, unlocked, empty)

	live := made("live")
	lock, err = lockSockets(live)
	require.NoError(t, err)
	defer lock.Close()

	deadSocket(t, live) // no process listens between two children
	old(live)
	listens := made("listens")
	l, err := net.Listen("unix", filepath.Join(listens, "rpc.sock"))
	require.NoError(t, err)
	defer l.Close()

	old(listens)
	young := made("young")
	foreign := made("foreign")
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "notes"), nil, 0o600))
	old(foreign)
	open := made("open")
	require.NoError(t, os.Chmod(open, 0o755))
	old(open)
	elsewhere := filepath.Join(temp, "elsewhere")
	require.NoError(t, os.Mkdir(elsewhere, 0o700))
	old(elsewhere)
	link := filepath.Join(temp, tempPrefix()+"link")
	require.NoError(t, os.Symlink(elsewhere, link))
	stay = append(stay, live, listens, young, foreign, open, elsewhere)

	release, err := HoldSockets(far())
	require.NoError(t, err)
	release()
	for _, dir := range gone {
		require.NoDirExists(t, dir)
	}

	for _, dir := range stay {
		require.DirExists(t, dir)
	}

	require.FileExists(t, link)
	require.FileExists(t, filepath.Join(foreign, "notes"))
	require.FileExists(t, filepath.Join(live, "abci-1-1.sock"))
}

// After a kill, the next start of the home takes the directory over and removes the sockets.
func TestTheNextStartTakesTheSocketsOver(t *testing.T) {
	tempDir(t)
	home := far()
	lock, err := lockSockets(SocketDir(home))
	require.NoError(t, err)
	deadSocket(t, SocketDir(home))
	_, err = HoldSockets(home)
	require.ErrorContains(t, err, "lock", "another process has it")
	require.NoError(t, lock.Close())
	release, err := HoldSockets(home)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(SocketDir(home), "abci-1-1.sock"))
	release()
}

// Homes start while other starts sweep: a directory that is held stays, and at the end no directory
// is left.
func TestASweepNeverTakesADirectoryThatIsHeld(t *testing.T) {
	temp, home := tempDir(t), far()
	stop, swept := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swept)
		for {
			select {
			case <-stop:
				return
			default:
				sweepSockets("")
			}
		}
	}()

	for i := range 100 {
		release, err := HoldSockets(home)
		require.NoError(t, err)
		l, err := net.Listen("unix", filepath.Join(SocketDir(home), strconv.Itoa(i)+".sock"))
		require.NoError(t, err)
		c, err := net.Dial("unix", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.NoError(t, l.Close())
		release()
	}

	close(stop)
	<-swept
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

// CometBFT serves RPC on a list of addresses, which it sends to its peers. A comma would end an
// address, and CometBFT refuses non-ASCII text.
func TestSocketsOfAHomeWithAnyName(t *testing.T) {
	require.Equal(t, "/srv/a b/run", SocketDir("/srv/a b"))
	for _, home := range []string{"/srv/a,b", "/srv/wäldchen", "/srv/a\tb"} {
		require.True(t, isTemp(SocketDir(home)), home)
	}
}
