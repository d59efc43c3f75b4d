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

// Intake limits what request bodies cost the node: the memory of all bodies together, after
// decompression too, the time that each body may take to arrive, and the number of requests that
// are handled at once. A request beyond a limit is refused with a text that says so: 413 for a body
// that is too long, 400 for a body that is too slow, and 503 with Retry-After if other requests
// leave no room for it. An Intake is safe for concurrent use.
type Intake struct {
	o    IntakeOptions
	wire *connect.ErrorWriter

	mu     sync.Mutex
	bytes  int64 // reserved
	inside int
}

// IntakeOptions are the limits of an Intake. A zero field means its default.
type IntakeOptions struct {
	MaxBody     int64         // bytes of one body, after decompression; 80 MiB, like NodeOptions
	MaxBodies   int64         // bytes of all bodies that are read or handled at once; 256 MiB, at least MaxBody
	MaxRequests int           // requests that are handled at once; 2,000
	Patience    time.Duration // time that every body may take, whatever its length; 10 s
	Rate        int64         // each Rate bytes received extend Patience by a second; 64 KiB
	Answer      time.Duration // from the end of a long body to the end of its answer; 3 minutes
}

// AnswerTime is how long the listener gives a request from its head to the end of its answer. A
// wait for results takes up to a minute of it. Streams have a time for each of their writes
// instead.
const AnswerTime = 3 * time.Minute

// gzipRatio is the largest number of bytes that one byte of gzip can decompress to.
const gzipRatio = 1032

// NewIntake returns an Intake with the limits in o.
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

	if o.Answer == 0 {
		o.Answer = AnswerTime
	}

	return &Intake{o: o, wire: connect.NewErrorWriter()}
}

// Reasons to refuse a request.
var (
	errBusyRequests = errors.New("too many requests at once")
	errBusyBodies   = errors.New("too many bytes of requests at once")
)

// Handler returns a handler that passes requests within the limits to h.
func (in *Intake) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !in.enter() {
			in.writeUnavailable(w, r,
				fmt.Errorf("%w: %w, want at most %d", ErrUnavailable, errBusyRequests, in.o.MaxRequests))
			return
		}
		defer in.leave()

		if r.ContentLength > in.o.MaxBody {
			in.tooLong(w, r)
			return
		}

		b := &body{in: in, from: r.Body, answer: w, factor: 1, began: time.Now(), shared: r.ProtoMajor > 1,
			control: http.NewResponseController(w)}
		defer b.end()

		if compressed(r.Header) {
			b.factor = gzipRatio
		}

		if r.ContentLength > 0 {
			if err := b.reserve(r.ContentLength); err != nil {
				in.writeUnavailable(w, r, err)
				return
			}
		}

		guarded := r.WithContext(context.WithValue(r.Context(), bodyKey{}, b))

		if r.Body != http.NoBody {
			b.watch() // even if h does not read it: the server discards the rest
			guarded.Body = b
		}

		h.ServeHTTP(w, guarded)
	})
}

// Count returns a handler that passes as many requests at once to h as the Intake allows, and
// refuses the others. It does not look at their bodies.
func (in *Intake) Count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !in.enter() {
			in.writeUnavailable(w, r,
				fmt.Errorf("%w: %w, want at most %d", ErrUnavailable, errBusyRequests, in.o.MaxRequests))
			return
		}
		defer in.leave()

		h.ServeHTTP(w, r)
	})
}

// compressed reports whether the body, or the messages in it, may be compressed.
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

// take reserves room for n more bytes. It returns an error if there is no room.
func (in *Intake) take(n int64) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.bytes+n > in.o.MaxBodies {
		return fmt.Errorf("%w: %w: %d are in use, want at most %d", ErrUnavailable, errBusyBodies, in.bytes,
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

func (in *Intake) writeUnavailable(w http.ResponseWriter, r *http.Request, err error) {
	writeUnavailable(in.wire, w, r, err)
}

// writeUnavailable answers 503 with the error, which says that the client may try again. It uses
// the protocol of the request if it knows it.
func writeUnavailable(wire *connect.ErrorWriter, w http.ResponseWriter, r *http.Request, err error) {
	unread(w, r)
	w.Header().Set("Retry-After", "1")
	if !wire.IsSupported(r) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	// If the client is gone, it does not read the error either.
	_ = wire.Write(w, r, connect.NewError(connect.CodeUnavailable, err))
}

// tooLong answers 413 without reading the body. A Connect client finds the error in the body of the
// answer.
func (in *Intake) tooLong(w http.ResponseWriter, r *http.Request) {
	unread(w, r)
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // the rest of the body is not read
	}
	text := fmt.Sprintf("body: %d bytes, want at most %d", r.ContentLength, in.o.MaxBody)

	if !in.wire.IsSupported(r) {
		http.Error(w, text, http.StatusRequestEntityTooLarge)
		return
	}

	_ = in.wire.Write(&status{w, http.StatusRequestEntityTooLarge}, r,
		connect.NewError(connect.CodeResourceExhausted, errors.New(text)))
}

// status is a ResponseWriter that sends code in place of status 429, which Connect uses for every
// exhausted resource. The answers to streams and gRPC carry their code elsewhere and keep status
// 200.
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

// handed releases the room that is reserved for the body of ctx's request. The caller has passed
// the contents on to another part of the node, which limits them from then on.
func handed(ctx context.Context) {
	if b, ok := ctx.Value(bodyKey{}).(*body); ok {
		b.release()
	}
}

// body is the body of a request. It counts its bytes and reserves room for them in the Intake. One
// goroutine reads it.
type body struct {
	in      *Intake
	from    io.ReadCloser
	answer  http.ResponseWriter
	control *http.ResponseController
	factor  int64 // number of bytes that a byte may decompress to
	began   time.Time
	read    int64
	limit   time.Duration // that the present deadline gives; 0: there is none
	shared  bool          // the connection carries other requests, too (HTTP/2)

	mu       sync.Mutex
	reserved int64
	released bool
	late     *time.Timer // the deadline of a shared connection; nil: there is none
	ended    bool        // the handler has returned: its ResponseWriter must not be used
}

// reserve makes sure that room is reserved for the first n bytes received, decompressed. It returns
// an error if there is no room.
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

// end ends the use of the body when the handler returns.
func (b *body) end() {
	b.mu.Lock()
	b.ended = true
	if b.late != nil {
		b.late.Stop()
	}
	b.mu.Unlock()

	b.release()
}

// watch sets the deadline for the next bytes of the body, and returns the time that the body may
// have taken by then. A body that takes long also puts off the deadline of the answer.
func (b *body) watch() time.Duration {
	limit := b.in.o.Patience + time.Duration(b.read/b.in.o.Rate)*time.Second
	if limit == b.limit {
		return limit
	}

	if b.limit != 0 {
		_ = b.control.SetWriteDeadline(b.began.Add(limit + b.in.o.Answer))
	}
	b.limit = limit
	b.setDeadline(b.began.Add(limit))

	return limit
}

// setDeadline sets the time at which a Read of the body fails; the zero time removes it. Only a
// test's recorder has no deadlines, and it has no client that could be slow.
//
// With HTTP/1 the deadline is the connection's. With HTTP/2 each deadline would be a message to the
// goroutine that serves the connection, for its other requests too; a timer costs a tenth of that.
func (b *body) setDeadline(at time.Time) {
	if !b.shared {
		_ = b.control.SetReadDeadline(at)
		return
	}

	b.mu.Lock()
	defer b.mu.Unlock()

	switch {
	case at.IsZero() && b.late != nil:
		b.late.Stop()
		b.late = nil
	case at.IsZero():
	case b.late == nil:
		b.late = time.AfterFunc(time.Until(at), b.cut)
	default:
		b.late.Reset(time.Until(at))
	}
}

// cut makes the Read of a body fail whose deadline has passed.
func (b *body) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()

	if b.late != nil && !b.ended {
		_ = b.control.SetReadDeadline(time.Unix(1, 0)) // it is past
	}
}

// Read reads from the body. It fails if the body comes too slowly or needs room that is not there.
func (b *body) Read(p []byte) (int, error) {
	limit := b.watch()
	n, err := b.from.Read(p)
	b.read += int64(n)
	if err == io.EOF {
		b.limit = 0
		b.setDeadline(time.Time{}) // from here on, the server watches the connection for its end
	}

	if errors.Is(err, os.ErrDeadlineExceeded) {
		if !b.shared {
			b.answer.Header().Set("Connection", "close") // the rest of the body is not read
		}
		return n, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("body: got %d bytes within %v, want at least %d per second after the first %v", b.read, limit,
				b.in.o.Rate, b.in.o.Patience))
	}

	if full := b.reserve(b.read); full != nil {
		return n, connect.NewError(connect.CodeUnavailable, full)
	}

	return n, err
}

func (b *body) Close() error { return b.from.Close() }
