// Package wire reads and writes the frames of ABCI's socket protocol, for both of its ends.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	abci "github.com/cometbft/cometbft/abci/types"
)

// A frame is the length of a message as a uvarint, and then the message, a protobuf.
//
//	┌─────────────────┬───────────────────────────┐
//	│ uvarint: n      │ n bytes: Request, Response │
//	└─────────────────┴───────────────────────────┘

// ErrFrame is the error if the peer sends bytes that are not an ABCI frame. The connection is then
// closed without an answer.
var ErrFrame = errors.New("not an ABCI frame")

// ReadStep bounds the memory that is allocated for a declared length before its bytes arrive.
const ReadStep = 1 << 20

// ReadFrame reads one frame of at most limit bytes and returns the message in it. It reads into
// buf, or into a larger buffer. If the stream ends cleanly between two frames, ReadFrame returns
// io.EOF.
func ReadFrame(r *bufio.Reader, limit int, buf []byte) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return buf, err
	}

	n, err := binary.ReadUvarint(r)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return buf, fmt.Errorf("%w: it ends inside its length", ErrFrame)
	case err != nil:
		return buf, fmt.Errorf("%w: its length: %w", ErrFrame, err)
	case n > uint64(limit):
		return buf, fmt.Errorf("%w: %d bytes, want at most %d", ErrFrame, n, limit)
	}

	buf = buf[:0]
	for have := 0; have < int(n); have = len(buf) {
		step := min(int(n)-have, max(ReadStep, cap(buf)-have))
		if cap(buf)-have < step {
			buf = append(make([]byte, 0, have+step), buf...)
		}

		buf = buf[:have+step]
		got, err := io.ReadFull(r, buf[have:])
		if err != nil {
			return buf, fmt.Errorf("%w: %d of %d bytes came: %w", ErrFrame, have+got, n, err)
		}
	}

	return buf, nil
}

// ReadRequest reads one request. buf is scratch memory; pass the returned buffer to the next call.
// The request does not refer to it.
func ReadRequest(r *bufio.Reader, limit int, buf []byte) (*abci.Request, []byte, error) {
	buf, err := ReadFrame(r, limit, buf)
	if err != nil {
		return nil, buf, err
	}
	req := new(abci.Request)
	if err := req.Unmarshal(buf); err != nil {
		return nil, buf, fmt.Errorf("%w: %d bytes are not a request: %w", ErrFrame, len(buf), err)
	}
	if req.Value == nil {
		return nil, buf, fmt.Errorf("%w: a request of an unknown kind", ErrFrame)
	}

	return req, buf, nil
}

// ReadResponse reads one response. buf is scratch memory; pass the returned buffer to the next
// call. An exception is an error, because our server sends none.
func ReadResponse(r *bufio.Reader, limit int, buf []byte) (*abci.Response, []byte, error) {
	buf, err := ReadFrame(r, limit, buf)
	if err != nil {
		return nil, buf, err
	}
	resp := new(abci.Response)
	if err := resp.Unmarshal(buf); err != nil {
		return nil, buf, fmt.Errorf("%w: %d bytes are not a response: %w", ErrFrame, len(buf), err)
	}
	if x := resp.GetException(); x != nil {
		return nil, buf, fmt.Errorf("exception: %s", x.Error)
	}
	if resp.Value == nil {
		return nil, buf, fmt.Errorf("%w: a response of an unknown kind", ErrFrame)
	}

	return resp, buf, nil
}

// message is a Request or a Response.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
}

// AppendFrame appends the frame of m to b.
func AppendFrame(b []byte, m message) ([]byte, error) {
	n := m.Size()
	b = binary.AppendUvarint(b, uint64(n))
	at := len(b)
	b = slices.Grow(b, n)[:at+n]
	if _, err := m.MarshalToSizedBuffer(b[at:]); err != nil {
		return nil, err
	}
	return b, nil
}

// WriteResponse writes one response into w's buffer.
func WriteResponse(w *bufio.Writer, resp *abci.Response) error {
	b, err := AppendFrame(w.AvailableBuffer(), resp)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
