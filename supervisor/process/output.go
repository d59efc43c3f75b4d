package process

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"sync"
)

// lines calls f for each line of r without its end, in pieces of at most limit bytes, until r ends.
func lines(r io.Reader, limit int, f func(line []byte)) {
	b := bufio.NewReaderSize(r, limit)
	inside := false // whether b is inside a line that was too long for one piece

	for {
		line, err := b.ReadSlice('\n')
		ended := err == nil
		if ended {
			line = bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'})
		}
		if len(line) > 0 || ended && !inside { // the rest of a long line may be empty; it is not an empty line
			f(line)
		}

		inside = !ended
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return // the end, or the pipe was closed while a descendant kept it open
		}
	}
}

// tail keeps the last lines.
type tail struct {
	mu   sync.Mutex
	ring [KeptLines]string
	n    int
}

func (t *tail) add(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring[t.n%KeptLines] = string(line[:min(len(line), KeptLineBytes)])
	t.n++
}

func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for i := max(0, t.n-KeptLines); i < t.n; i++ {
		out = append(out, t.ring[i%KeptLines])
	}
	return out
}
