package servers

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// NATS starts a nats-server with JetStream, whose file store syncs before each acknowledgment
// unless args have "-sync=false". args are more arguments of programs/nats.
func NATS(t testing.TB, args ...string) *Server {
	t.Helper()
	return program(t, "nats", args)
}

// Kafka starts kfake, a stand-in for Kafka, with a data directory and a sync of each write. args
// are more arguments of programs/kafka.
func Kafka(t testing.TB, args ...string) *Server {
	t.Helper()
	return program(t, "kafka", args)
}

func program(t testing.TB, name string, args []string) *Server {
	t.Helper()
	path := build(t, name)
	dir := t.TempDir()
	port := strconv.Itoa(freePort(t))

	return start(t, &Server{
		Addr: net.JoinHostPort("127.0.0.1", port),
		Dir:  dir,
		command: func() *exec.Cmd {
			return exec.Command(path, append([]string{"-port", port, "-dir", dir}, args...)...)
		},
		ready: readyLine,
	})
}

// build returns the path of a program of programs/. A program is linked once for each state of its
// sources, and kept in the user's cache beside Go's.
func build(t testing.TB, name string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	module := filepath.Join(filepath.Dir(here), "programs")
	sum := sha256.New()
	sources, err := filepath.Glob(filepath.Join(module, name, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range append(sources, filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")) {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(text)
	}
	sum.Write([]byte(runtime.Version()))

	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "coppice-test-servers")
	path := filepath.Join(dir, name+"-"+hex.EncodeToString(sum.Sum(nil)[:8]))
	if _, err := os.Stat(path); err == nil {
		return path
	}

	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	temporary, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	made := filepath.Join(temporary, name)
	cmd := exec.Command("go", "build", "-o", made, "./"+name)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=") // not -race: the server is not under test
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", name, err, out)
	}
	if err := os.Rename(made, path); err != nil {
		t.Fatal(err)
	}

	return path
}
