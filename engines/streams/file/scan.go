package file

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/coppice-go/coppice/engines/streams"
)

// state is where a sink stands, as its files say.
type state struct {
	cursor streams.Cursor // with the newest epoch
	file   uint64         // number of the newest file; 0: there is none
	end    int64          // offset after the last line that counts: a head, a claim or an End
	seq    uint64         // of that line
	synced int64          // offset up to which all was durable before that line; see mark
}

const suffix = ".jsonl"

func fileName(dir string, n uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d%s", n, suffix))
}

// files returns the numbers of the files in dir, in order.
func files(fs FS, dir string) ([]uint64, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}

	var numbers []uint64
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, suffix)
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && len(digits) == 12 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)

	return numbers, nil
}

// scan reads the newest file of dir. A file without a whole head was being begun when the writer
// died, and the one before it counts.
func scan(fs FS, dir string) (state, error) {
	numbers, err := files(fs, dir)
	if err != nil {
		return state{}, err
	}

	for _, n := range slices.Backward(numbers) {
		f, err := fs.Open(fileName(dir, n), false)
		if err != nil {
			return state{}, err
		}
		st, err := scanFile(f, n, nil)
		f.Close()
		if err != nil || st.file != 0 {
			return st, err
		}
	}

	return state{}, nil
}

// scanFile returns the state after the last line of a file that counts. st.file is 0 if the file
// has no whole head. each, if set, gets every whole line with its offset, before the lines after it
// are read. Damage that is not a torn end is an error.
func scanFile(f File, n uint64, each func(line []byte, at int64) error) (state, error) {
	size, err := f.Size()
	if err != nil {
		return state{}, err
	}

	var st state
	r := newLineReader(f, size)
	for {
		line, at, err := r.next()
		if err == io.EOF {
			return st, nil
		}
		if err == nil {
			err = check(line)
		}
		if errors.Is(err, errLine) {
			return st, damaged(r, n, at, err)
		}
		if err != nil {
			return st, err
		}

		if each != nil {
			if err := each(line, at); err != nil {
				return st, err
			}
		}
		if err := st.take(line, n, r.at); err != nil {
			return st, fmt.Errorf("file %d at offset %d: %w", n, at, err)
		}
	}
}

// take brings the state to a whole line, which ends at offset end.
func (st *state) take(line []byte, n uint64, end int64) error {
	if isEvent(line) && !isEnd(line) {
		return nil
	}

	var m mark
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}

	if isEvent(line) {
		e, err := streams.ParseJSON(line)
		if err != nil {
			return err
		}
		st.cursor = streams.Opening{Definition: st.cursor.Definition, Epoch: st.cursor.Epoch}.Cursor(e)
		st.seq, st.end, st.synced = m.Seq, end, m.Synced
		return nil
	}

	switch {
	case m.Head == n && m.Cursor != nil:
		st.file, st.cursor = n, *m.Cursor
	case m.Claim != "" && m.Cursor != nil:
		st.cursor.Definition = m.Cursor.Definition
	default:
		return fmt.Errorf("%w: neither an event nor a mark", errLine)
	}
	st.cursor.Epoch = m.Epoch
	st.seq, st.end, st.synced = m.Seq, end, 0

	return nil
}

// damaged says whether a bad line is damage: a later whole line then says that the bad place was
// durable. It returns nil for a torn end.
func damaged(r *lineReader, n uint64, bad int64, why error) error {
	for {
		line, _, err := r.next()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, errLine), err == nil && check(line) != nil:
			continue
		case err != nil:
			return err
		}

		var m mark
		if json.Unmarshal(line, &m) == nil && (m.Synced > bad || m.Claim != "") {
			return fmt.Errorf("file %d is damaged at offset %d: %w", n, bad, why)
		}
	}
}

// lineReader reads lines, whatever their length.
type lineReader struct {
	r   *bufio.Reader
	at  int64 // offset after the last line
	buf []byte
}

func newLineReader(f io.ReaderAt, size int64) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 256<<10)}
}

// next returns a line without its newline, and its offset. A last line without a newline is an
// errLine.
func (r *lineReader) next() (line []byte, at int64, err error) {
	at = r.at
	r.buf = r.buf[:0]
	for {
		part, err := r.r.ReadSlice('\n')
		r.at += int64(len(part))

		switch {
		case err == nil && len(r.buf) == 0:
			return part[:len(part)-1], at, nil
		case err == nil:
			r.buf = append(r.buf, part...)
			return r.buf[:len(r.buf)-1], at, nil
		case err == bufio.ErrBufferFull:
			r.buf = append(r.buf, part...)
		case err == io.EOF && len(part)+len(r.buf) > 0:
			return nil, at, fmt.Errorf("%w: it has no end", errLine)
		default:
			return nil, at, err
		}
	}
}
