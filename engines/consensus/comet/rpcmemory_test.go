package comet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	comethome "github.com/coppice-go/coppice/engines/consensus/comet/home"
	"github.com/coppice-go/coppice/engines/consensus/comet/rpcserver"
)

// peakMemory returns the most memory that a process has had resident, in MiB.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if os.IsNotExist(err) {
		t.Skip("this system has no /proc")
	}
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.Fields(text)[0])
			require.NoError(t, err)
			return kib >> 10
		}
	}
	require.FailNow(t, "no VmHWM")
	return 0
}

// batchOf returns a batch of n requests for a block.
func batchOf(n int, height int64) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `,{"jsonrpc":"2.0","id":%d,"method":"block","params":{"height":"%d"}}`, i, height)
	}
	return append(append([]byte{'['}, b.Bytes()[1:]...), ']')
}

// A hundred large blocks in one request, four such requests at once, and the same over websockets
// that read nothing, take a bounded amount of memory. (Before, one such request took 2.5 GiB and
// four took 9.4.) RPC_BEFORE=1 measures our own socket, which has no limits.
func TestTheMemoryOfTheRPCIsBounded(t *testing.T) {
	if os.Getenv("COPPICE_SOAK") == "" {
		t.Skip("a minute under the race detector: make soak runs it, and package rpcserver tests the limits themselves")
	}
	c := newFakeCore()
	c.idle = true
	port := freePort(t)
	home := newHome(t, comethome.Options{})
	require.NoError(t, comethome.SetNetwork(home, comethome.Network{RPC: port}))
	drive(t, home, c)
	for i := range 4 {
		c.submit(fmt.Sprint("x", i, "=") + strings.Repeat("v", 870<<10))
	}
	c.await(t, func() bool { return len(c.pool) == 0 })

	own, err := newRPC(rpcSocket(comethome.SocketDir(home)))
	require.NoError(t, err)
	height, size := int64(0), 0
	info, err := own.BlockchainInfo(t.Context(), 0, 0)
	require.NoError(t, err)
	for _, m := range info.BlockMetas {
		if m.BlockSize > size {
			height, size = m.Header.Height, m.BlockSize
		}
	}
	require.Greater(t, size, 1<<20)

	pid := pidOf(t, home)
	t.Logf("a block of %.1f MiB; before: %d MiB", float64(size)/(1<<20), peakMemory(t, pid))

	client, address := http.DefaultClient, "http://"+port
	if os.Getenv("RPC_BEFORE") != "" {
		slow := *own.http
		slow.Timeout = time.Minute
		client, address = &slow, "http://comet"
	}

	post := func() []byte {
		body := bytes.NewReader(batchOf(100, height))
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, body)
		require.NoError(t, err)
		resp, err := client.Do(req)
		if os.Getenv("RPC_BEFORE") != "" && err != nil {
			return nil // CometBFT gave up writing
		}
		require.NoError(t, err)
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if os.Getenv("RPC_BEFORE") == "" {
			require.NoError(t, err)
		}
		return data
	}

	data := post()
	t.Logf("one request of 100 blocks: %d MiB of answer; peak %d MiB", len(data)>>20, peakMemory(t, pid))

	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { post() })
	}
	wg.Wait()
	t.Logf("four at once: peak %d MiB", peakMemory(t, pid))
	if os.Getenv("RPC_BEFORE") != "" {
		return
	}

	var answers []struct {
		ID     int             `json:"id"`
		Result json.RawMessage `json:"result"`
		Error  *struct {
			Data string `json:"data"`
		} `json:"error"`
	}
	require.NoError(t, json.Unmarshal(data, &answers))
	require.Len(t, answers, 100, "each call has an answer")
	whole := 0
	for i, a := range answers {
		require.Equal(t, i, a.ID)
		if a.Error == nil {
			require.Equal(t, whole, i, "the first calls have their blocks")
			whole++
		} else {
			require.Contains(t, a.Error.Data, "in another request")
		}
	}
	require.Positive(t, whole)
	require.Less(t, len(data), rpcserver.MostOfAnswer+2*size+1<<20)

	sockets(t, port, height)
	t.Logf("websockets that do not read: peak %d MiB", peakMemory(t, pid))
	require.Less(t, peakMemory(t, pid), 1000, "MiB")

	// A single block, a small batch and the rest of the RPC are as before.
	var resp *http.Response
	require.Eventually(t, func() bool { // what the sockets asked for may still be made
		//nolint:noctx,bodyclose // a test; it is closed below
		resp, err = http.Get(address + "/block?height=" + strconv.FormatInt(height, 10))
		require.NoError(t, err)
		if resp.StatusCode != http.StatusOK {
			require.NoError(t, resp.Body.Close())
		}
		return resp.StatusCode == http.StatusOK
	}, time.Minute, time.Millisecond)
	require.Equal(t, "public, max-age=86400", resp.Header.Get("Cache-Control"))
	one, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Greater(t, len(one), size)
	require.NoError(t, resp.Body.Close())
	c.submit("on=1")
	c.await(t, func() bool { return len(c.pool) == 0 })
}

// sockets opens websockets, asks for more blocks than fit into the memory, and reads nothing.
func sockets(t *testing.T, address string, height int64) {
	t.Helper()
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		require.NoError(t, err)
		defer conn.Close()
		_, err = fmt.Fprintf(conn, "GET /websocket HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: "+
			"Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", address)
		require.NoError(t, err)
		_, err = io.ReadFull(conn, make([]byte, 16))
		require.NoError(t, err)

		for i := range 100 {
			call := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":"block","params":{"height":"%d"}}`, i, height)
			frame := append([]byte{0x81, 0x80 | byte(len(call)), 0, 0, 0, 0}, call...) // masked by zeros
			_, err = conn.Write(frame)
			require.NoError(t, err)
		}
	}

	// A call from elsewhere is answered when the budget is free again, or refused as busy.
	resp, err := http.Get(fmt.Sprintf("http://%s/block?height=%d", address, height)) //nolint:noctx // a test
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
}
