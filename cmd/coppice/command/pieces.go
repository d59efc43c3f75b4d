package command

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
)

// piece is a transaction of a file.
type piece struct {
	Line int    `json:"line"`          // the first line of the transaction
	Next int    `json:"next"`          // the line after its last line
	Tx   []byte `json:"tx,omitempty"`  // canonical bytes
	Bad  string `json:"bad,omitempty"` // why its lines are no transaction
}

// pieces reads transactions from the lines of a file.
type pieces struct {
	in       *bufio.Reader
	validFor time.Duration
	newTx    func(backend string, body []byte, validFor time.Duration) chain.Tx
	line     int  // read so far
	over     bool // the file is at its end

	sum  hash.Hash      // of the lines read so far
	sums map[int]string // the digest after each line from keep on
	keep int
}

// before returns how many lines are before a line, and their digest.
func (p *pieces) before(line int) (int, string) {
	if line <= 1 {
		return 0, ""
	}
	return line - 1, p.sums[line-1]
}

// read returns the next line. It sets over if there is none.
func (p *pieces) read() (string, error) {
	var b []byte
	for {
		part, err := p.in.ReadSlice('\n')
		b = append(b, part...)
		switch {
		case len(b) > maxInput:
			return "", fmt.Errorf("line %d: more than %d bytes, longer than any transaction", p.line+1, maxInput)

		case errors.Is(err, bufio.ErrBufferFull):
			continue

		case errors.Is(err, io.EOF) && len(b) == 0:
			p.over = true
			return "", nil

		case err != nil && !errors.Is(err, io.EOF):
			return "", err
		}

		p.line++
		text := strings.TrimRight(string(b), "\r\n")
		p.sum.Write([]byte(text + "\n")) // so that a line end added to the last line changes nothing

		if p.line >= p.keep {
			if p.sums == nil {
				p.sums = make(map[int]string)
			}
			p.sums[p.line] = hex.EncodeToString(p.sum.Sum(nil))
		}

		return text, nil
	}
}

// next returns up to max transactions that begin at the line from or later. It returns none at the
// end of the file.
func (p *pieces) next(from, max int) (batch []piece, err error) {
	p.keep = from - 1
	maps.DeleteFunc(p.sums, func(line int, _ string) bool { return line < p.keep })

	bytes := 0
	for len(batch) < max && bytes < chain.MaxTxBytes {
		text, err := p.read()
		if err != nil || p.over {
			return batch, err
		}

		first := p.line

		switch strings.TrimSpace(text) {
		case "begin":
			var group []string
			for {
				text, err = p.read()
				if err != nil {
					return batch, err
				}
				if p.over {
					return batch, fmt.Errorf("line %d: begin without end", first)
				}
				if strings.TrimSpace(text) == "end" {
					break
				}

				group = append(group, text)
			}

			text = "\n" + strings.Join(group, "\n") // so that errors count lines from that of begin
		}

		if first < from {
			continue
		}

		made := piece{Line: first, Next: p.line + 1}
		ops, err := kv.ParseText(text)
		if err == nil && len(ops) == 0 && first == p.line {
			continue // an empty line, or a comment
		}
		if err == nil {
			made.Tx, err = p.encode(ops)
		}
		if err != nil {
			made.Bad = err.Error()
		}

		bytes += len(made.Tx)
		batch = append(batch, made)
	}

	return batch, nil
}

// encode returns the transaction of a piece.
func (p *pieces) encode(ops []kv.Op) ([]byte, error) {
	body, err := kv.Encode(ops...)
	if err != nil {
		return nil, err
	}
	return p.newTx(kv.Name, body, p.validFor).Encode()
}
