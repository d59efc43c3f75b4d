package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// Intake bounds what the bodies of all requests together may cost: their memory, also decompressed,
// how slowly they may come, and how many requests may be inside. What passes a bound is refused
// with a text that says so: 413 for one body that is too long, 400 for one that is too slow, 503
// with Retry-After where others have taken the room. Safe for concurrent use.
type Intake struct {
	o    IntakeOptions
	wire *connect.ErrorWriter

	mu     sync.Mutex
	bytes  int64 // reserved
	inside int
}

// IntakeOptions are the bounds of an Intake. A zero field means its default.
type IntakeOptions struct {
	MaxBody     int64         // bytes of one body, after decompression; 80 MiB, as NodeOptions
	MaxBodies   int64         // bytes of all bodies that are being read or handled; 256 MiB, at least MaxBody
	MaxRequests int           // inside at once; 2,000
	Patience    time.Duration // that a body may take whatever its length; 10 s
	Rate        int64         // bytes a second by which the patience grows; 64 KiB
}

// gzipRatio is the most that gzip's format can make of a byte.
const gzipRatio = 1032

// NewIntake returns an intake with nothing inside.
func NewIntake(o IntakeOptions) *Intake {
	if o.MaxBody == 0 {
		o.MaxBody = int64(NodeOptions{}.withDefaults().MaxBody)
	}
	if o.MaxBodies == 0 {
		o.MaxBodies = 256 << 20
	}

	o.MaxBodies = max(o.MaxBodies, o.MaxBody)
	if o.MaxRequests == 0 {
		o.MaxRequests = 2000
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	if o.Rate == 0 {
		o.Rate = 64 << 10
	}

	return &Intake{o: o, wire: connect.NewErrorWriter()}
}

// Errors that refuse a request.
var (
	errBusyRequests = errors.New("too many requests at once")
	errBusyBodies   = errors.New("too many bytes of requests at once")
)

// Handler lets requests through to h within the bounds.
func (in *Intake) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !in.enter() {
			in.refuse(w, r, fmt.Errorf("%w: %w, want at most %d", ErrUnavailable, errBusyRequests, in.o.MaxRequests))
			return
		}
		defer in.leave()

		if r.ContentLength > in.o.MaxBody {
			in.tooLong(w, r)
			return
		}

		b := &body{in: in, from: r.Body, answer: w, factor: 1, began: time.Now(),
			control: http.NewResponseController(w)}
		defer b.release()

		if compressed(r.Header) {
			b.factor = gzipRatio
		}

		if r.ContentLength > 0 {
			if err := b.reserve(r.ContentLength); err != nil {
				in.refuse(w, r, err)
				return
			}
		}

		guarded := r.WithContext(context.WithValue(r.Context(), bodyKey{}, b))

		if r.Body != http.NoBody {
			b.watch() // also where nobody reads it: the server throws away what is left
			guarded.Body = b
		}

		h.ServeHTTP(w, guarded)
	})
}

// compressed tells whether the body, or the messages in it, may be compressed.
func compressed(h http.Header) bool {
	for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
		if v := h.Get(name); v != "" && !strings.EqualFold(v, "identity") {
			return true
		}
	}
	return false
}

func (in *Intake) enter() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.inside >= in.o.MaxRequests {
		return false
	}
	in.inside++
	return true
}

func (in *Intake) leave() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.inside--
}

// take reserves n bytes more, unless there is no room.
func (in *Intake) take(n int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.bytes+n > in.o.MaxBodies {
		return fmt.Errorf("%w: %w: %d are taken, want at most %d", ErrUnavailable, errBusyBodies, in.bytes,
			in.o.MaxBodies)
	}
	in.bytes += n
	return nil
}

func (in *Intake) give(n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.bytes -= n
}

func (in *Intake) refuse(w http.ResponseWriter, r *http.Request, err error) {
	refuse(in.wire, w, r, err)
}

// refuse answers that it is worth trying again, in the protocol of the request if it has one.
func refuse(wire *connect.ErrorWriter, w http.ResponseWriter, r *http.Request, err error) {
	unread(w, r)
	w.Header().Set("Retry-After", "1")
	if !wire.IsSupported(r) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	// A client that is gone does not read the error either.
	_ = wire.Write(w, r, connect.NewError(connect.CodeUnavailable, err))
}

// tooLong answers 413 before anything was read. Connect's own clients find their error in the body.
func (in *Intake) tooLong(w http.ResponseWriter, r *http.Request) {
	unread(w, r)
	w.Header().Set("Connection", "close") // nobody reads what is still to come
	text := fmt.Sprintf("body: %d bytes, want at most %d", r.ContentLength, in.o.MaxBody)

	if !in.wire.IsSupported(r) {
		http.Error(w, text, http.StatusRequestEntityTooLarge)
		return
	}

	_ = in.wire.Write(&status{w, http.StatusRequestEntityTooLarge}, r,
		connect.NewError(connect.CodeResourceExhausted, errors.New(text)))
}

// status writes another status than Connect's, which has 429 for all that is exhausted. Streams and
// gRPC have theirs elsewhere, and 200 here.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	if code == http.StatusTooManyRequests {
		code = s.code
	}
	s.ResponseWriter.WriteHeader(code)
}

type bodyKey struct{}

// handed gives the room of the request's body back: what it holds belongs to somebody else from now
// on, who bounds it.
func handed(ctx context.Context) {
	if b, ok := ctx.Value(bodyKey{}).(*body); ok {
		b.release()
	}
}

// body is a request's, counted. One goroutine reads it.
type body struct {
	in      *Intake
	from    io.ReadCloser
	answer  http.ResponseWriter
	control *http.ResponseController
	factor  int64 // what a byte may become
	began   time.Time
	read    int64

	mu       sync.Mutex
	reserved int64
	released bool
}

// reserve takes the room for n bytes as they come, if it has not yet.
func (b *body) reserve(n int64) error {
	want := min(b.in.o.MaxBody, n*b.factor)
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.released || want <= b.reserved {
		return nil
	}
	if err := b.in.take(want - b.reserved); err != nil {
		return err
	}

	b.reserved = want

	return nil
}

func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.released {
		b.released = true
		b.in.give(b.reserved)
	}
}

// watch sets the deadline by which more must have come.
func (b *body) watch() time.Duration {
	limit := b.in.o.Patience + time.Duration(b.read/b.in.o.Rate)*time.Second
	// A connection without deadlines, as of a test's recorder, has no client that could be slow.
	_ = b.control.SetReadDeadline(b.began.Add(limit))
	return limit
}

// Read reads what has come, within the time that so much may take.
func (b *body) Read(p []byte) (int, error) {
	limit := b.watch()
	n, err := b.from.Read(p)
	b.read += int64(n)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{}) // the connection is watched for its end from here on
	}

	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.answer.Header().Set("Connection", "close") // nobody waits for the rest
		return n, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("body: %d bytes came within %v, want at least %d in a second after the first %v", b.read, limit,
				b.in.o.Rate, b.in.o.Patience))
	}

	if full := b.reserve(b.read); full != nil {
		return n, connect.NewError(connect.CodeUnavailable, full)
	}

	return n, err
}

func (b *body) Close() error { return b.from.Close() }
