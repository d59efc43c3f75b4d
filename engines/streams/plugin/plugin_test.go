//go:build linux

package plugin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/plugin/sdk"
	"github.com/coppice-go/coppice/engines/streams/plugin/wire"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
)

// The test program is its own plugin: a sink that behaves badly as its settings say.
func TestMain(m *testing.M) {
	if os.Getenv(wire.Handshake.MagicCookieKey) != "" {
		sdk.Serve(badFactory())
		return
	}
	goleak.VerifyTestMain(m)
}

func badFactory() streams.Factory {
	return streams.Factory{Kind: "bad", Version: "1", Ack: streams.Durable,
		New: func(d streams.Definition, _ streams.Secrets) (streams.Sink, error) {
			s := &bad{}
			return s, d.Decode(s)
		}}
}

// bad is a sink that does as How says when it writes.
type bad struct {
	How string `toml:"how"`
}

func (b *bad) Open(_ context.Context, o streams.Opening) (streams.Cursor, error) {
	return streams.Cursor{Epoch: o.Epoch, Native: strings.Join(os.Environ(), "\n")}, nil
}

func (b *bad) Write(ctx context.Context, d streams.Delivery) error {
	switch b.How {
	case "hang":
		select {} //nolint:staticcheck // that is the point
	case "panic":
		panic("the plugin's panic")
	case "exit":
		os.Exit(3)
	case "flood":
		line := strings.Repeat("x", 1000)
		for range 50_000 {
			fmt.Fprintln(os.Stderr, line)
		}
		fmt.Fprintln(os.Stderr, "the last line")
		return errors.New("after the flood")
	case "memory":
		var all [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
	case "reject":
		return streams.Reject(streams.Place{ChainID: "c", Position: streams.Position{Period: 1, Height: 2}, Index: 3},
			errors.New("no"))
	case "full":
		return streams.Fail(streams.Full, errors.New("the disk is full"))
	}

	for {
		e, err := d.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		d.Credit(e.Size())
	}
}

func (b *bad) Observe(context.Context) (streams.Cursor, error) {
	return streams.Cursor{Beat: uint64(os.Getpid())}, nil
}

func (b *bad) Read(context.Context, streams.Position, streams.Position, func(streams.Event) error) error {
	return streams.ErrNoRead
}

func (b *bad) Close(context.Context) error { return nil }

// copyOfOwn returns a copy of the test program, in a directory that only its user may change.
func copyOfOwn(t testing.TB) string {
	t.Helper()
	own, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "bad")
	b, err := os.ReadFile(own)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, b, 0o700))

	return path
}

func sumOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// parse makes the sink of a definition for a program.
func parse(t testing.TB, path, sum, how string, more ...string) (streams.Sink, error) {
	t.Helper()
	text := fmt.Sprintf("kind = \"plugin\"\npath = %q\nsha256 = %q\nplugin = \"bad\"\n%s\n[settings]\nhow = %q\n", path,
		sum, strings.Join(more, "\n"), how)
	d, err := streams.ParseDefinition(filepath.Join(t.TempDir(), "bad.toml"), []byte(text))
	require.NoError(t, err)

	return Factory().New(d, streams.Secrets{})
}

func open(t testing.TB, path, how string, more ...string) (*sink, streams.Cursor) {
	t.Helper()
	made, err := parse(t, path, sumOf(t, path), how, more...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = made.Close(context.Background()) })
	c, err := made.Open(t.Context(), streams.Opening{Slot: "bad", Epoch: 1})
	require.NoError(t, err)

	return made.(*sink), c
}

// pid returns the number of the plugin's process.
func pid(t testing.TB, s *sink) int {
	t.Helper()
	c, err := s.Observe(t.Context())
	require.NoError(t, err)
	return int(c.Beat)
}

func lives(pid int) bool { return syscall.Kill(pid, 0) == nil }

// Item 10: a program with another checksum, or that others may change, is refused.
func TestATamperedPluginIsRefused(t *testing.T) {
	refused := func(path, sum, text string) {
		t.Helper()
		s, err := parse(t, path, sum, "")
		require.NoError(t, err)
		_, err = s.Open(t.Context(), streams.Opening{Epoch: 1})
		require.Equal(t, streams.Misconfigured, streams.ClassOf(err), "%v", err)
		require.ErrorContains(t, err, text)
		require.NoError(t, s.Close(t.Context()))
	}

	path := copyOfOwn(t)
	sum := sumOf(t, path)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("more")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	refused(path, sum, "it was exchanged or rebuilt")

	path = copyOfOwn(t)
	require.NoError(t, os.Chmod(path, 0o722))
	refused(path, sum, "may be written by others")
	require.NoError(t, os.Chmod(path, 0o700))
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o777))
	refused(path, sum, "may be written by others")
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o700))

	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	refused(link, sum, "symbolic link")
	refused(filepath.Join(t.TempDir(), "none"), sum, "no such file")

	script := filepath.Join(t.TempDir(), "script")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho hello\n"), 0o700))
	refused(script, sumOf(t, script), "script")
}

// Item 10: a program that is exchanged between the check and the start, by its name or in place,
// has no effect on what is executed.
func TestAPluginThatIsExchangedAfterTheCheck(t *testing.T) {
	path := copyOfOwn(t)
	sum := sha256.Sum256([]byte{})
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	sum = sha256.Sum256(b)
	copied, err := image(path, sum)
	require.NoError(t, err)
	defer copied.Close()

	// In place, and then by its name.
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/false\n"), 0o700))
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/false\n"), 0o700))
	_, err = copied.WriteAt([]byte("x"), 0)
	require.ErrorIs(t, err, syscall.EPERM, "the copy is sealed")

	client, p, service, err := launch(keys{Path: path, Memory: defaultMemory, Files: defaultFiles}, copied, node{})
	require.NoError(t, err)
	require.NotNil(t, service)
	require.NoError(t, p.Kill(t.Context()))
	client.Kill()
}

// Item 24: a plugin that hangs is killed when its call is broken off, with its group, and the next
// sink starts another one.
func TestAHungPluginIsKilled(t *testing.T) {
	path := copyOfOwn(t)
	s, _ := open(t, path, "hang")
	first := pid(t, s)

	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("no credit, no answer"))
	defer cancel()
	err := s.Write(ctx, sinktest.Deliver(sinktest.Units(1, 3)...))
	require.ErrorContains(t, err, "no credit, no answer")
	require.False(t, lives(first))
	_, err = s.Observe(t.Context())
	require.Equal(t, streams.Bug, streams.ClassOf(err))

	s, _ = open(t, path, "")
	require.NotEqual(t, first, pid(t, s))
	require.NoError(t, s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 3)...)))
}

// Item 24: a process that is stopped shows no sign of life, and is killed.
func TestAStoppedPluginIsKilled(t *testing.T) {
	path := copyOfOwn(t)
	made, err := parse(t, path, sumOf(t, path), "")
	require.NoError(t, err)
	s := made.(*sink)
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	s.silence = 3 * time.Second
	n := pid(t, s)
	require.NoError(t, syscall.Kill(n, syscall.SIGSTOP))
	<-s.run.program.done
	require.False(t, lives(n))
	require.ErrorContains(t, s.run.failure(), "no sign of life")
}

// A plugin that ends is named with its end and its last words, of which little is kept.
func TestAPluginThatEnds(t *testing.T) {
	path := copyOfOwn(t)
	for how, text := range map[string]string{
		"panic":  "the plugin's panic",
		"exit":   "status 3",
		"memory": "it wrote: ", // Go and the race detector use their own words
	} {
		t.Run(how, func(t *testing.T) {
			s, _ := open(t, path, how, fmt.Sprintf("memory = %d", 768<<20))
			n := pid(t, s)
			err := s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 3)...))
			require.Equal(t, streams.Bug, streams.ClassOf(err), "%v", err)
			require.ErrorContains(t, err, text)
			require.Less(t, len(err.Error()), 64<<10)
			require.False(t, lives(n))
		})
	}
}

// Of a flood on standard error little is kept: its beginning and its end.
func TestAFloodOnStandardErrorIsBounded(t *testing.T) {
	s, _ := open(t, copyOfOwn(t), "flood")
	require.ErrorContains(t, s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 3)...)), "after the flood")
	require.Eventually(t, func() bool { return strings.HasSuffix(s.run.program.said(), "the last line") }, time.Minute,
		10*time.Millisecond)
	require.Less(t, len(s.run.program.said()), 2*maxLines*(maxLine+10))
}

// Errors keep their class, and a refused event its place.
func TestErrorsOfAPluginKeepTheirClass(t *testing.T) {
	path := copyOfOwn(t)
	s, _ := open(t, path, "full")
	err := s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 3)...))
	require.Equal(t, streams.Full, streams.ClassOf(err))

	s, _ = open(t, path, "reject")
	err = s.Write(t.Context(), sinktest.Deliver(sinktest.Units(1, 3)...))
	var f *streams.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, streams.Place{ChainID: "c", Position: streams.Position{Period: 1, Height: 2}, Index: 3}, f.Place)
}

// Item 51: the process has the variables that the definition lists, go-plugin's, and no other.
func TestAPluginHasOnlyTheListedEnvironment(t *testing.T) {
	t.Setenv("COPPICE_TEST_SECRET", "swordfish")
	t.Setenv("COPPICE_TEST_LISTED", "yes")
	_, c := open(t, copyOfOwn(t), "", `env = ["COPPICE_TEST_LISTED"]`)
	require.NotContains(t, c.Native, "swordfish")
	for _, v := range strings.Split(c.Native, "\n") {
		name, _, isVariable := strings.Cut(v, "=")
		if isVariable && !strings.HasPrefix(name, "PLUGIN_") && strings.ToUpper(name) == name {
			require.Contains(t, []string{"COPPICE_TEST_LISTED", "COPPICE_SINK_PLUGIN", "GOMEMLIMIT"}, name)
		}
	}
}

// A process ends with its sink, and with the definition's kind, acknowledgment and keys checked.
func TestAPluginIsWhatTheDefinitionSays(t *testing.T) {
	path := copyOfOwn(t)
	s, _ := open(t, path, "")
	n := pid(t, s)
	require.NoError(t, s.Close(t.Context()))
	require.False(t, lives(n))

	for _, wrong := range []struct{ line, text string }{
		{`ack = "processed"`, "acknowledges what is durable"},
		{"[settings2]", "unknown key"},
	} {
		made, err := parse(t, path, sumOf(t, path), "", wrong.line)
		if err == nil {
			_, err = made.Open(t.Context(), streams.Opening{Epoch: 1})
			require.NoError(t, made.Close(t.Context()))
		}
		require.Equal(t, streams.Misconfigured, streams.ClassOf(err))
		require.ErrorContains(t, err, wrong.text)
	}
}
