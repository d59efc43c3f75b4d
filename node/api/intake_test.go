package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/api"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	"github.com/coppice-go/coppice/proto/coppice/api/v1/apiv1connect"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

const submitPath = "/coppice.api.v1.NodeService/Submit"

// serveIntake serves a fake node behind an intake.
func serveIntake(t *testing.T, o api.IntakeOptions) (*fakeNode, *httptest.Server) {
	t.Helper()
	f := newFakeNode()
	mux := http.NewServeMux()
	mux.Handle(api.NodeHandler(f, api.NodeOptions{MaxBody: int(o.MaxBody)}))
	srv := httptest.NewServer(api.NewIntake(o).Handler(mux))
	t.Cleanup(srv.Close)
	return f, srv
}

// post returns the status, Retry-After and text of the answer to a request.
func post(t *testing.T, srv *httptest.Server, body io.Reader, header ...string) (int, string, string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, srv.URL+submitPath, body)
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}

	res, err := srv.Client().Do(r)
	require.NoError(t, err)
	defer res.Body.Close()

	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)

	return res.StatusCode, res.Header.Get("Retry-After"), string(text)
}

func zipped(t *testing.T, text string) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := io.WriteString(z, text)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return bytes.NewReader(b.Bytes())
}

func TestABodyThatIsTooLongIsRefusedBeforeItIsRead(t *testing.T) {
	_, srv := serveIntake(t, api.IntakeOptions{MaxBody: 1000})
	code, _, text := post(t, srv, strings.NewReader(strings.Repeat("x", 2000)))
	require.Equal(t, http.StatusRequestEntityTooLarge, code)
	require.Contains(t, text, "body: 2000 bytes, want at most 1000")

	c := apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL)
	_, err := c.Submit(context.Background(),
		connect.NewRequest(&apiv1.SubmitRequest{Txs: [][]byte{make([]byte, 3000)}}))
	require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "%v", err)
	require.ErrorContains(t, err, "want at most 1000")
}

// A body that does not declare its length, or is compressed, is refused as soon as it proves too
// long.
func TestABodyThatTurnsOutTooLongIsRefused(t *testing.T) {
	_, srv := serveIntake(t, api.IntakeOptions{MaxBody: 1000})
	code, _, text := post(t, srv, io.MultiReader(strings.NewReader(strings.Repeat("x", 2000))))
	require.Equal(t, http.StatusTooManyRequests, code)
	require.Contains(t, text, "message size 2000 is larger than configured max 1000")

	code, _, text = post(t, srv, zipped(t, strings.Repeat("0", 1<<19)), "Content-Encoding", "gzip")
	require.Equal(t, http.StatusTooManyRequests, code, "a gzip bomb")
	require.Contains(t, text, "larger than configured max 1000")
}

func TestAGarbledBodyIsTheClientsFault(t *testing.T) {
	_, srv := serveIntake(t, api.IntakeOptions{MaxBody: 1000})
	for _, c := range []struct {
		name, body, kind, encoding string
		code                       int
		says                       string
	}{
		{"no JSON", "{", "application/json", "", http.StatusBadRequest, "unmarshal message"},
		{"empty JSON", "", "application/json", "", http.StatusBadRequest,
			"zero-length payload is not a valid JSON object"},
		{"no protobuf", "\xff\xff", "application/proto", "", http.StatusBadRequest, "unmarshal message"},
		{"no transactions", "{}", "application/json", "", http.StatusBadRequest,
			"txs: 0 transactions, want 1 to 10000"},
		{"no base64", `{"txs":["*"]}`, "application/json", "", http.StatusBadRequest,
			"invalid value for bytes field txs"},
		{"an unknown wait", `{"txs":["AA=="],"wait":9}`, "application/json", "", http.StatusBadRequest,
			"wait: 9 is none of WAIT_ACCEPTED, WAIT_RESULT and WAIT_SINK"},
		{"a negative timeout", `{"txs":["AA=="],"timeout":"-1s"}`, "application/json", "", http.StatusBadRequest,
			"timeout: -1s, want 0 to 1m0s"},
		{"no gzip", "{}", "application/json", "gzip", http.StatusBadRequest, "get decompressor"},
		{"a compression that nobody has", "{}", "application/json", "br", http.StatusNotImplemented,
			"supported encodings are gzip"},
		{"a content type that nobody has", "{}", "text/plain", "", http.StatusUnsupportedMediaType, ""},
		{"no content type", "{}", "", "", http.StatusUnsupportedMediaType, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, text := post(t, srv, strings.NewReader(c.body), "Content-Type", c.kind,
				"Content-Encoding", c.encoding)
			require.Equal(t, c.code, code, "%s", text)
			require.Contains(t, text, c.says)
		})
	}
}

// An unknown key is skipped, by protobuf's rule: a newer client may talk to an older node.
func TestAnUnknownJSONKeyIsSkipped(t *testing.T) {
	_, srv := serveIntake(t, api.IntakeOptions{})
	code, _, text := post(t, srv, strings.NewReader(`{"txs":["AA=="],"since_next_year":true}`))
	require.Equal(t, http.StatusOK, code, "%s", text)
}

func TestABadMethodOrPathIsRefused(t *testing.T) {
	_, srv := serveIntake(t, api.IntakeOptions{})
	for _, c := range []struct {
		method, path string
		code         int
	}{
		{http.MethodDelete, submitPath, http.StatusMethodNotAllowed},
		{http.MethodGet, submitPath, http.StatusMethodNotAllowed},
		{http.MethodPost, "/coppice.api.v1.NodeService/Nothing", http.StatusNotFound},
		{http.MethodPost, "/../../etc/passwd", http.StatusNotFound},
	} {
		r, err := http.NewRequest(c.method, srv.URL+c.path, strings.NewReader("{}"))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		res, err := srv.Client().Do(r)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, c.code, res.StatusCode, "%s %s", c.method, c.path)
	}
}

// dialSlow sends the head of a request with a body of the given length, and only the first byte of
// that body.
func dialSlow(t *testing.T, srv *httptest.Server, length int) (answer func() string) {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "+
		"%d\r\n\r\n{", submitPath, length)
	require.NoError(t, err)
	return func() string {
		b, err := io.ReadAll(conn) // the server closes the connection
		require.NoError(t, err)
		return string(b)
	}
}

func TestASlowBodyIsCutOff(t *testing.T) {
	_, srv := serveIntake(t, api.IntakeOptions{Patience: 50 * time.Millisecond})
	text := dialSlow(t, srv, 100)()
	require.Contains(t, text, "400 Bad Request")
	require.Contains(t, text, "body: got 1 bytes within 50ms, want at least 65536 per second after the first 50ms")
}

// A wait for a result may last longer than the patience, which limits only the body.
func TestPatienceEndsWithTheBody(t *testing.T) {
	f, srv := serveIntake(t, api.IntakeOptions{Patience: 30 * time.Millisecond})
	c := apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL)
	waited := make(chan error)
	go func() {
		_, err := c.Submit(context.Background(),
			connect.NewRequest(&apiv1.SubmitRequest{Txs: [][]byte{[]byte("a")}, Wait: apiv1.Wait_WAIT_RESULT}))
		waited <- err
	}()

	<-f.waiting

	select {
	case err := <-waited:
		t.Fatalf("the wait was cut off: %v", err)
	case <-time.After(120 * time.Millisecond): // several times the patience
	}

	f.end(hashOf("a"), resultOf("a"))
	require.NoError(t, <-waited)
}

// A compressed body counts as the size that it may decompress to, so that many of them do not fill
// the memory. A request that finds no room may be tried again.
func TestAStormOfCompressedBodiesIsBounded(t *testing.T) {
	in := api.NewIntake(api.IntakeOptions{MaxBody: 1 << 20, MaxBodies: 3 << 20})
	inside, leave := make(chan struct{}, 3), make(chan struct{})
	srv := httptest.NewServer(in.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		inside <- struct{}{}
		<-leave
	})))
	defer srv.Close()

	bomb := strings.Repeat("0", 8<<20) // a few KiB, compressed
	ended := make(chan int, 3)

	for range 3 {
		body := zipped(t, bomb)
		go func() {
			code, _, _ := post(t, srv, body, "Content-Encoding", "gzip")
			ended <- code
		}()
		<-inside
	}

	code, retry, text := post(t, srv, zipped(t, bomb), "Content-Encoding", "gzip")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "1", retry)
	require.Contains(t, text, "too many bytes of requests at once: 3145728 are in use, want at most 3145728")
	code, _, _ = post(t, srv, io.MultiReader(strings.NewReader("no length")))
	require.Equal(t, http.StatusServiceUnavailable, code, "and so is one that comes without its length")
	close(leave)
	for range 3 {
		require.Equal(t, http.StatusOK, <-ended)
	}

	code, _, _ = post(t, srv, zipped(t, bomb), "Content-Encoding", "gzip")
	require.Equal(t, http.StatusOK, code, "all room was given back")
}

// A request that waits for a result holds no room: the pool has the transaction, and limits itself.
func TestAWaitHoldsNoRoom(t *testing.T) {
	f, srv := serveIntake(t, api.IntakeOptions{MaxBody: 1000, MaxBodies: 1000})
	c := apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL)
	tx := strings.Repeat("a", 900)
	waited := make(chan error)
	go func() {
		_, err := c.Submit(context.Background(),
			connect.NewRequest(&apiv1.SubmitRequest{Txs: [][]byte{[]byte(tx)}, Wait: apiv1.Wait_WAIT_RESULT}))
		waited <- err
	}()

	<-f.waiting
	_, err := c.Submit(context.Background(), connect.NewRequest(&apiv1.SubmitRequest{Txs: [][]byte{[]byte(tx)}}))
	require.NoError(t, err)
	f.end(hashOf(tx), resultOf(tx))
	require.NoError(t, <-waited)
}

func TestTooManyRequestsAtOnceAreToldToTryAgain(t *testing.T) {
	f, srv := serveIntake(t, api.IntakeOptions{MaxRequests: 1})
	c := apiv1connect.NewNodeServiceClient(srv.Client(), srv.URL)
	waited := make(chan error)
	go func() {
		_, err := c.Submit(context.Background(),
			connect.NewRequest(&apiv1.SubmitRequest{Txs: [][]byte{[]byte("a")}, Wait: apiv1.Wait_WAIT_RESULT}))
		waited <- err
	}()

	<-f.waiting
	code, retry, text := post(t, srv, strings.NewReader("{}"))
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "1", retry)
	require.Contains(t, text, "too many requests at once, want at most 1")
	_, err := c.Status(context.Background(), connect.NewRequest(&apiv1.StatusRequest{}))
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "a client tries again: %v", err)
	f.end(hashOf("a"), resultOf("a"))
	require.NoError(t, <-waited)
}

func hashOf(tx string) chain.TxID { return chain.HashTx([]byte(tx)) }

func resultOf(tx string) *logv1.TxResult {
	id := hashOf(tx)
	return &logv1.TxResult{Id: id[:], Version: &logv1.Version{Height: 1}}
}
